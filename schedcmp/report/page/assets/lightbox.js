// One cell in full, with everything that is known of it.

import { $, button, copier, h, keyValues, keyed, pictureOf, select } from "./dom.js";
import { digits, isNumber, mebibytes, seconds } from "./format.js";
import { address, at, byId, command, describe, isMade, label, mark, metrics, program, run, varies } from "./run.js";
import { set, state } from "./state.js";
import { layOut } from "./layout.js";
import { grid, moveTo, placeOf } from "./grid.js";
import { MODES, choices, compare, fit, follow, otherOf, referenceOf, stage, standard } from "./compare.js";

const lightbox = $("lightbox");
let shownLast = "";

export function openCell(id) {
  const cell = byId.get(id);
  set({ cell: id, with: follow(cell) });
}

export function drawLightbox(changed) {
  const cell = byId.get(state.cell);
  if (!cell) {
    clearInterval(compare.timer);
    if (lightbox.open) lightbox.close();
    return;
  }
  shownLast = cell.id;
  grid.layout ??= layOut(1); // opened from elsewhere, the grid still says what is beside
  if (state.mode !== "single" && !otherOf(cell)) state.with = standard(cell);
  const focused = lightbox.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const scroll = lightbox.querySelector(".details")?.scrollTop ?? 0;
  const [box, control] = stage(cell);
  lightbox.replaceChildren(
    h("div.viewer", box, h("div.controls", compareControls(cell), control)),
    h("div.details", lightboxHead(cell), details(cell)),
  );
  lightbox.querySelector(".details").scrollTop = changed.has("cell") ? 0 : scroll;
  if (!lightbox.open) lightbox.showModal();
  fit(lightbox.querySelector(".stage"));
  (lightbox.querySelector(`[data-key="${focused}"]`) ?? lightbox.querySelector("h2")).focus();
}

function lightboxHead(cell) {
  return h(
    "div.lightbox-head",
    h("h2", { id: "lightbox-title", tabindex: -1 }, describe(cell)),
    button("✕", () => set({ cell: "" }), { "data-key": "close", "aria-label": "Close" }),
  );
}

function compareControls(cell) {
  const found = choices(cell);
  if (!isMade(cell) || !found.length) return null;
  const mode = select("Compare", MODES, state.mode, (value) => set({ mode: value }), { "data-key": "mode" });
  const choose = (value) => set({ with: value, pin: "", mode: state.mode === "single" ? "slider" : state.mode });
  const against = select("with", found, state.with || standard(cell), choose, { "data-key": "with" });
  return h("div.row-of", mode, against);
}

function details(cell) {
  const recipe = run.recipes[cell.recipe];
  return h(
    "div",
    notes(cell),
    h("p.prompt", { dir: "auto" }, at(cell, "prompt").text || "(empty prompt)"),
    keyValues(settings(cell)),
    h("h3", "Measured"),
    keyValues(measured(cell)),
    h("h3", "Make it again"),
    commandBox(cell),
    recipe ? recipeParts(recipe) : null,
    cell.image ? h("p", h("a", { href: address(cell.image), target: "_blank" }, cell.image)) : null,
  );
}

function notes(cell) {
  const reference = referenceOf(cell);
  const withheld = reference && !reference.image && reference.note ? `no converged image: ${reference.note}` : null;
  const wrong = isMade(cell) ? mark(cell) : `${cell.status}: ${cell.reason ?? "no image"}`;
  return [wrong, withheld].filter(Boolean).map((text) => h("p.notice", { dir: "auto" }, text));
}

function settings(cell) {
  const shown = run.axes.filter((axis) => axis.detail);
  return [
    ...shown.map(({ name, title }) => [title, shownValue(at(cell, name))]),
    ["Size", cell.width ? `${cell.width} × ${cell.height} px` : ""],
    ["Video", cell.frames ? `${cell.frames} frames at ${digits(cell.fps)} a second` : ""],
    ["Prompt's name", varies("prompt") ? label(cell, "prompt") : ""],
    ["Cell", cell.id],
  ];
}

const shownValue = (value) => (value.picture ? h("span", pictureOf(value), value.label) : String(value.value));

function measured(cell) {
  const reference = referenceOf(cell);
  const solo = isNumber(cell.own_latency_s) ? `${seconds(cell.own_latency_s)}, solo` : "";
  const metric = ({ name, label: text }) => [text, name in cell.metrics ? digits(cell.metrics[name], 4) : ""];
  return [
    ["NFE", cell.nfe],
    ["Latency", isNumber(cell.latency_s) ? `${seconds(cell.latency_s)} (median of its like)` : "not timed"],
    ["This image", solo || (cell.packed ? "made packed" : "")],
    ...[...metrics.values()].map(metric),
    ["Reference known to", isNumber(reference?.uncertainty) ? `${digits(reference.uncertainty)} RMSE` : ""],
    ["Peak memory", cell.peak_memory_bytes === null ? "" : mebibytes(cell.peak_memory_bytes)],
  ];
}

// Each option on a line if it can be; a browser breaks one after its hyphens
function unbroken(text) {
  return text.split(/ (?=-)/).flatMap((part, i) => [i ? " " : "", h("span.part", part)]);
}

function commandBox(cell) {
  const told = h("span", { role: "status" });
  const python = program(cell);
  const copiers = [
    copier("Copy", command(cell), told, "copied", { "data-key": "copy" }),
    python && copier("Copy as diffusers program", python, told, "copied", { "data-key": "python" }),
  ];
  const code = h("code", { id: "command", tabindex: 0 }, unbroken(command(cell)));
  return h("div.command", code, h("div.row-of", copiers, told));
}

function recipeParts(recipe) {
  const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const config = Object.entries(recipe.config).map(([key, value]) => [key, plain(value)]);
  const numbers = (name, found) =>
    h("details", h("summary", `${name} (${found.length})`), h("p.numbers", found.map((n) => digits(n, 5)).join("  ")));
  return [
    h("details", h("summary", "Resolved scheduler config"), keyValues(config)),
    numbers("Timesteps", recipe.timesteps),
    recipe.sigmas?.length ? numbers("Sigmas", recipe.sigmas) : null,
  ];
}

// The next cell in a direction of the grid that has anything to show
function step(rows, cols) {
  const start = placeOf(state.cell);
  if (!start) return;
  let [row, col] = [start[0] + rows, start[1] + cols];
  for (; grid.layout.rows[row] && grid.layout.cols[col]; row += rows, col += cols) {
    const [cell] = grid.layout.at(row, col);
    if (!cell) continue;
    moveTo(row, col, false);
    openCell(cell.id);
    return;
  }
}

function cycleMode() {
  const place = MODES.findIndex(([name]) => name === state.mode);
  if (choices(byId.get(state.cell)).length) set({ mode: MODES[(place + 1) % MODES.length][0] });
}

const LIGHTBOX_KEYS = {
  ArrowLeft: () => step(0, -1),
  ArrowRight: () => step(0, 1),
  ArrowUp: () => step(-1, 0),
  ArrowDown: () => step(1, 0),
  c: cycleMode,
  p: () => set({ with: state.cell, pin: "1" }),
  x: () => lightbox.querySelector('.blink ~ .controls [data-key="x"]')?.click(),
};

lightbox.addEventListener(
  "keydown",
  keyed(LIGHTBOX_KEYS, (event) => event.target.closest("select, input")),
);
lightbox.addEventListener("close", () => {
  if (state.cell) set({ cell: "" });
  const last = state.view === "images" && placeOf(shownLast);
  if (last) moveTo(...last); // not where it was opened: the browser would go back there
});
lightbox.addEventListener("click", (event) => event.target === lightbox && lightbox.close());
