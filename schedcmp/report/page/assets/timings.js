// The timing table; a column's head sorts by it.

import { $, button, h } from "./dom.js";
import { NONE, mebibytes, seconds } from "./format.js";
import { run } from "./run.js";
import { most } from "./tiles.js";

const COLUMNS = [
  ["scheduler", "scheduler", (row) => row.name],
  ["steps", "steps", (row) => String(row.steps)],
  ["nfe", "NFE", (row) => String(row.nfe)],
  ["latency_s", "latency", (row) => seconds(row.latency_s)],
  ["latency_iqr_s", "IQR", (row) => seconds(row.latency_iqr_s)],
  ["s_per_nfe", "per NFE", (row) => seconds(row.s_per_nfe)],
  ["relative", "relative", (row) => (row.doubt ? NONE : `${row.relative.toFixed(2)}×`)],
  ["n", "n", (row) => String(row.n)],
  ["denoiser_s", "denoiser", (row) => seconds(row.denoiser_s)],
  ["scheduler_overhead_s", "scheduler's", (row) => seconds(row.scheduler_overhead_s)],
  ["text_s", "text", (row) => seconds(row.text_s)],
  ["vae_s", "VAE", (row) => seconds(row.vae_s)],
  ["peak_memory_bytes", "memory", (row) => mebibytes(row.peak_memory_bytes)],
];
const timingOrder = { key: null, down: false };

export function drawTimings() {
  const parts = run.timings.length ? [timingTable()] : [h("p.empty", "Nothing was timed in this run.")];
  const doubt = run.timings[0]?.doubt;
  if (doubt) parts.unshift(h("p.finding", { role: "note" }, `These latencies must not be compared: ${doubt}.`));
  const about =
    "Latency is the wall time of one image made alone, after a warm-up: the median of n, with the interquartile " +
    "range. NFE counts denoiser evaluations. Relative is against the fastest row of the same setting.";
  $("view-timings").replaceChildren(h("h2", "Timings"), h("p.quiet", about), ...parts);
}

function timingTable() {
  const shown = COLUMNS.filter(([key]) => run.timings.some((row) => row[key] !== null));
  const slowest = most(run.timings.map((row) => row.latency_s));
  const line = (row) => shown.map((column) => timingCell(row, column, slowest));
  const body = ordered(run.timings).map((row) => h("tr", line(row)));
  return h("div.wide", h("table.timings", h("thead", h("tr", shown.map(timingHead))), h("tbody", body)));
}

function timingCell(row, [key, , text], slowest) {
  if (key === "scheduler") return h("th", { scope: "row" }, text(row));
  if (key !== "latency_s") return h("td", text(row));
  return h("td.bar", { style: { "--part": `${(100 * row.latency_s) / slowest}%` } }, text(row));
}

function timingHead([key, name]) {
  const [sort, arrow] =
    timingOrder.key !== key ? [null, ""] : timingOrder.down ? ["descending", " ↓"] : ["ascending", " ↑"];
  const press = () => {
    Object.assign(timingOrder, { down: timingOrder.key === key && !timingOrder.down, key });
    drawTimings();
    $("view-timings").querySelector(`[data-key="${key}"]`).focus();
  };
  return h("th", { scope: "col", "aria-sort": sort }, button(name + arrow, press, { "data-key": key }));
}

function ordered(rows) {
  const { key, down } = timingOrder;
  if (!key) return rows;
  const sign = down ? -1 : 1;
  const compareBy = (a, b) => (typeof a === "string" ? a.localeCompare(b) : (a ?? Infinity) - (b ?? Infinity));
  return [...rows].sort((a, b) => sign * compareBy(a[key], b[key]));
}
