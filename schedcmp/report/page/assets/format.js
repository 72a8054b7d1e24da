// Numbers for people, as `report.numbers` writes them.

export const NONE = "–";
export const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export function digits(value, count = 3) {
  if (!isNumber(value)) return value ?? NONE;
  const plain = Number(value.toPrecision(count));
  return Math.abs(plain) >= 1e6 || (plain !== 0 && Math.abs(plain) < 1e-4) ? plain.toExponential() : String(plain);
}

export function seconds(value) {
  if (!isNumber(value)) return NONE;
  const rounded = Number(value.toPrecision(3));
  if (rounded >= 1000) return `${value.toFixed(0)} s`;
  const [size, unit] = rounded >= 1 ? [1, "s"] : rounded >= 1e-3 ? [1e-3, "ms"] : [1e-6, "µs"];
  return `${digits(value / size)} ${unit}`;
}

export const mebibytes = (value) =>
  isNumber(value) ? `${Math.round(value / 2 ** 20).toLocaleString("en")} MiB` : NONE;
export const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

export function median(values) {
  const sorted = values.filter(isNumber).sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (!sorted.length) return NaN;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// JSON is YAML, but for characters that YAML has no place for in a quoted text
export const yamlFlow = (value) =>
  JSON.stringify(value).replace(
    /[\u007f-\u009f\u2028\u2029\ufeff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );

export const shellWord = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
