// The run as the page's JSON has it, with the ways to ask it.

import { $ } from "./dom.js";
import { NONE, digits, isNumber, seconds, shellWord, yamlFlow } from "./format.js";

export const run = JSON.parse($("run").textContent);
export const axes = Object.fromEntries(run.axes.map((axis, place) => [axis.name, { ...axis, place }]));
export const cells = run.cells;
export const byId = new Map(cells.map((cell) => [cell.id, cell]));
export const metrics = new Map(run.metrics.filter((m) => !m.whole).map((metric) => [metric.name, metric]));

export const BASE = "base"; // the axis that stands for the scheduler's where sigma schedules or shifts are an axis too
export const SETTING = run.axes.filter((axis) => axis.setting).map((axis) => axis.name); // what images that are compared share
export const STATUSES = {
  ok: "ok",
  flagged: "flagged",
  failed: "failed",
  unsupported: "unsupported",
  inert: "same image",
};

export const values = (axis) => axes[axis].values;
export const varies = (axis) => values(axis).length > 1;
export const at = (cell, axis) => values(axis)[cell.at[axes[axis].place]];
export const label = (cell, axis) => at(cell, axis).label;
export const describe = (cell) => `${label(cell, "scheduler")}, ${label(cell, "steps")}, ${label(cell, "seed")}`;
export const isMade = (cell) => cell.image !== null && !cell.lost;
export const isCounted = (cell) => isMade(cell) && cell.status === "ok"; // in ranks and plots; flagged images never do
export const address = (path) => path.split("/").map(encodeURIComponent).join("/");
export const smallImage = (cell) => address(cell.thumb ?? cell.image);
export const isVideo = (cell) => (cell.frames ?? 1) > 1;
export const isStill = matchMedia("(prefers-reduced-motion: reduce)"); // videos are contact sheets then

// What cells can be ordered, tinted and captioned by: name → {label, of(cell), text(value), higher is better?}
export const measures = new Map([
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

export const tasks = group(cells, (cell) => cell.task);

export function group(items, key) {
  const found = new Map();
  for (const item of items) found.has(key(item)) ? found.get(key(item)).push(item) : found.set(key(item), [item]);
  return found;
}

export const hasStatus = (cell, status) => (status === "inert" ? Boolean(cell.inert) : cell.status === status);

export function mark(cell) {
  if (cell.status === "flagged") return `flagged: ${cell.reason ?? "no reason given"}`;
  return cell.inert ?? null;
}

const searchTexts = new Map(); // by cell: made once

export function searchText(cell) {
  if (!searchTexts.has(cell)) {
    const named = Object.keys(axes).map((axis) => label(cell, axis));
    const told = [...named, at(cell, "prompt").text, cell.status, cell.reason, cell.inert];
    searchTexts.set(cell, told.join(" ").toLowerCase());
  }
  return searchTexts.get(cell);
}

// The cell as a program for diffusers, or null; cells that differ in their seed share its lines
export function program(cell) {
  const { lines, programs, seed } = run.programs;
  const text = programs[cell.program]?.map((i) => `${lines[i]}\n`).join("");
  return text?.replaceAll(seed, String(at(cell, "seed").value)) ?? null;
}

// The sweep's rules that leave out all values of an axis but one
function withoutOthers({ excluded, values }, own) {
  const others = values.filter((value) => value !== own).map(({ value }) => value);
  return others.length ? [{ [excluded]: others }] : [];
}

// The command that makes this cell again, in a folder of its own
export function command(cell) {
  const settings = Object.keys(axes).map((axis) => at(cell, axis).again);
  const all = Object.assign({}, run.remake[at(cell, "scheduler").value], ...settings);
  const others = run.axes.filter(({ excluded }) => excluded).map((axis) => withoutOthers(axis, at(cell, axis.name)));
  if (others.flat().length) all.exclude = others.flat();
  const sets = Object.entries(all).map(([key, v]) => `--set ${shellWord(`${key}=${v === null ? "" : yamlFlow(v)}`)}`);
  return `schedcmp run sweep.yaml -o remade-${cell.id} ${sets.join(" ")}`;
}
