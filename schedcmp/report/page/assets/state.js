// What the page shows, kept in the address so that it can be shared and comes back after a reload.

import { select } from "./dom.js";
import { axes, byId, cells, measures, metrics, run } from "./run.js";
import { MODES } from "./compare.js";
import { VIEWS } from "./main.js";

const listeners = [];
export const state = {};

const plainAxis = (names, otherwise) => names.find((name) => axes[name]) ?? otherwise;

export const DEFAULTS = {
  view: "images",
  rows: plainAxis(run.grid.rows, "scheduler"),
  cols: plainAxis(run.grid.cols, "steps"),
  sort: "", // the sweep's order
  down: "",
  q: "",
  status: "",
  tint: "",
  show: metrics.keys().next().value ?? "",
  tile: "",
  cell: "",
  with: "",
  pin: "", // `with` stays as it is when another task is shown
  mode: "single",
  x: run.decides?.cost ?? (cells.some((c) => c.latency_s !== null) ? "latency" : "nfe"),
  y: run.decides?.metric ?? run.metrics[0]?.name ?? "latency",
  by: "", // what blind votes are about: "" all steps, else one number of them
};

export const isSelector = (key) => key.startsWith("at.");

export function readAddress() {
  const read = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  for (const key of Object.keys(state)) delete state[key];
  Object.assign(state, DEFAULTS);
  for (const [key, value] of Object.entries(read))
    if (Object.hasOwn(DEFAULTS, key) || isSelector(key)) state[key] = value;
  repair();
}

// An address may be of another run, or written by hand
function repair() {
  const axisNames = ["", ...Object.keys(axes)];
  for (const key of ["rows", "cols"]) if (!axisNames.includes(state[key])) state[key] = DEFAULTS[key];
  if (state.rows === state.cols && state.rows) state.cols = "";
  if (!VIEWS.some(([name]) => name === state.view)) state.view = DEFAULTS.view;
  if (!MODES.some(([name]) => name === state.mode)) state.mode = DEFAULTS.mode;
  for (const key of ["x", "y"]) if (!measures.has(state[key])) state[key] = DEFAULTS[key];
  for (const key of ["sort", "tint", "show"]) if (state[key] !== "name" && !measures.has(state[key])) state[key] = "";
  if (!byId.has(state.cell)) state.cell = "";
}

function writeAddress() {
  const kept = Object.entries(state).filter(([key, value]) => value !== (DEFAULTS[key] ?? null));
  history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
}

export function set(changes) {
  const before = { ...state };
  Object.assign(state, changes);
  for (const key of Object.keys(changes)) if (changes[key] === null) delete state[key];
  writeAddress();
  announce(before);
}

function announce(before) {
  const changed = new Set(Object.keys({ ...before, ...state }).filter((key) => before[key] !== state[key]));
  for (const listen of listeners) listen(changed);
}

// A select for a part of the state
export const choose = (key, name, options) =>
  select(name, options, state[key], (value) => set({ [key]: value }), { name: key });

export const onChange = (listen) => listeners.push(listen);
export const touches = (changed, ...keys) => keys.some((key) => changed.has(key));

window.addEventListener("hashchange", () => {
  const before = { ...state };
  readAddress();
  announce(before);
});
