// The run as the page's JSON has it, with the ways to ask it.

const run = JSON.parse($("run").textContent);
const axes = Object.fromEntries(run.axes.map((axis, place) => [axis.name, { ...axis, place }]));
const cells = run.cells;
const byId = new Map(cells.map((cell) => [cell.id, cell]));
const metrics = new Map(run.metrics.filter((m) => !m.whole).map((metric) => [metric.name, metric]));

const AXIS_LABELS = {
  scheduler: "Scheduler",
  base: "Scheduler",
  sigma_schedule: "Sigmas",
  steps: "Steps",
  nfe: "NFE",
  seed: "Seed",
  prompt: "Prompt",
  negative_prompt: "Negative prompt",
  guidance_scale: "Guidance",
  size: "Size",
  call: "Call",
  shift: "Shift",
};
const STATUSES = { ok: "ok", flagged: "flagged", failed: "failed", unsupported: "unsupported", inert: "same image" };

const values = (axis) => axes[axis].values;
const varies = (axis) => values(axis).length > 1;
const at = (cell, axis) => values(axis)[cell.at[axes[axis].place]];
const label = (cell, axis) => at(cell, axis).label;
const describe = (cell) => `${label(cell, "scheduler")}, ${label(cell, "steps")}, ${label(cell, "seed")}`;
const isMade = (cell) => cell.image !== null && !cell.lost;
const isCounted = (cell) => isMade(cell) && cell.status === "ok"; // in ranks and plots; flagged images never do
const address = (path) => path.split("/").map(encodeURIComponent).join("/");
const smallImage = (cell) => address(cell.thumb ?? cell.image);

// What cells can be ordered, tinted and captioned by: name → {label, of(cell), text(value), higher is better?}
const measures = new Map([
  ["latency", { label: "latency", short: "latency", of: (c) => c.latency_s, text: seconds, higher: false }],
  [
    "nfe",
    { label: "NFE", short: "NFE", of: (c) => c.nfe, text: (v) => (isNumber(v) ? `${v} NFE` : NONE), higher: false },
  ],
  ...run.metrics.map((m) => [
    m.name,
    { ...m, short: m.label.split(/ to | \(/)[0], of: (c) => c.metrics[m.name], text: digits },
  ]),
]);

// What the answer says of a scheduler at a number of steps, where it says something
const estimates = new Map(run.points.map((point) => [JSON.stringify(point.of), point]));
const estimateOf = (cell) => estimates.get(JSON.stringify([...pointKey(cell), cell.width, cell.height, at(cell, "call").value]));
const pointKey = (cell) => ["scheduler", "steps", "guidance_scale"].map((axis) => at(cell, axis).value);

const tasks = group(cells, (cell) => cell.task);

function group(items, key) {
  const found = new Map();
  for (const item of items) found.has(key(item)) ? found.get(key(item)).push(item) : found.set(key(item), [item]);
  return found;
}

const hasStatus = (cell, status) => (status === "inert" ? Boolean(cell.inert) : cell.status === status);

function mark(cell) {
  if (cell.status === "flagged") return `flagged: ${cell.reason ?? "no reason given"}`;
  return cell.inert ?? null;
}

function searchText(cell) {
  const named = Object.keys(AXIS_LABELS).map((axis) => label(cell, axis));
  return [...named, at(cell, "prompt").text, cell.status, cell.reason, cell.inert].join(" ").toLowerCase();
}

// The command that makes this cell again, in a folder of its own
function command(cell) {
  const value = (axis) => at(cell, axis).value;
  const prompt = at(cell, "prompt");
  const [width, height] = cell.asked;
  const settings = {
    ...run.remake[value("scheduler")],
    steps: [value("steps")],
    seeds: [value("seed")],
    prompt: { [prompt.value]: prompt.text },
    negative_prompt: value("negative_prompt"),
    guidance_scale: value("guidance_scale"),
    ...(varies("size") ? { size: `${width}x${height}` } : {}),
    ...(Object.keys(cell.call).length ? { call: cell.call } : {}),
  };
  const sets = Object.entries(settings).map(
    ([key, v]) => `--set ${shellWord(`${key}=${v === null ? "" : yamlFlow(v)}`)}`,
  );
  return `schedcmp run sweep.yaml -o remade-${cell.id} ${sets.join(" ")}`;
}
