// One cell in full, with everything that is known of it.

import { $, button, copy, h, keyValues, pictureOf, select } from "./dom.js";
import { digits, isNumber, mebibytes, seconds } from "./format.js";
import { address, at, byId, command, describe, isMade, label, mark, metrics, program, run, varies } from "./run.js";
import { set, state } from "./state.js";
import { layOut } from "./layout.js";
import { grid, placeOf } from "./grid.js";
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
  lightbox.replaceChildren(...lightboxParts(cell));
  lightbox.querySelector(".details").scrollTop = changed.has("cell") ? 0 : scroll;
  if (!lightbox.open) lightbox.showModal();
  fit(lightbox.querySelector(".stage"));
  (lightbox.querySelector(`[data-key="${focused}"]`) ?? lightbox.querySelector("h2")).focus();
}

function lightboxParts(cell) {
  const [box, control] = stage(cell);
  return [
    h("div", { class: "viewer" }, box, h("div", { class: "controls" }, compareControls(cell), control)),
    h("div", { class: "details" }, lightboxHead(cell), details(cell)),
  ];
}

function lightboxHead(cell) {
  return h(
    "div",
    { class: "lightbox-head" },
    h("h2", { id: "lightbox-title", tabindex: -1 }, describe(cell)),
    button("✕", () => set({ cell: "" }), { "data-key": "close", "aria-label": "Close" }),
  );
}

function compareControls(cell) {
  const found = choices(cell);
  if (!isMade(cell) || !found.length) return null;
  const mode = select("Compare", MODES, state.mode, (value) => set({ mode: value }), { "data-key": "mode" });
  const chosenNow = state.with || standard(cell);
  const against = select(
    "with",
    found,
    chosenNow,
    (value) => set({ with: value, pin: "", ...(state.mode === "single" ? { mode: "slider" } : {}) }),
    { "data-key": "with" },
  );
  return h("div", { class: "row-of" }, mode, against);
}

function details(cell) {
  const recipe = run.recipes[cell.recipe];
  return h(
    "div",
    {},
    notes(cell),
    h("p", { class: "prompt", dir: "auto" }, at(cell, "prompt").text || "(empty prompt)"),
    keyValues(settings(cell)),
    h("h3", {}, "Measured"),
    keyValues(measured(cell)),
    h("h3", {}, "Make it again"),
    commandBox(cell),
    recipe ? recipeParts(recipe) : null,
    cell.image ? h("p", {}, h("a", { href: address(cell.image), target: "_blank" }, cell.image)) : null,
  );
}

function notes(cell) {
  const reference = referenceOf(cell);
  const withheld = reference && !reference.image && reference.note ? `no converged image: ${reference.note}` : null;
  const wrong = isMade(cell) ? mark(cell) : `${cell.status}: ${cell.reason ?? "no image"}`;
  return [wrong, withheld].filter(Boolean).map((text) => h("p", { class: "notice", dir: "auto" }, text));
}

function settings(cell) {
  const shown = run.axes.filter((axis) => axis.detail);
  const named = shown.map(({ name, title }) => [title, shownValue(at(cell, name))]);
  return [
    ...named,
    ["Size", cell.width ? `${cell.width} × ${cell.height} px` : ""],
    ["Video", cell.frames ? `${cell.frames} frames at ${digits(cell.fps)} a second` : ""],
    ["Prompt's name", varies("prompt") ? label(cell, "prompt") : ""],
    ["Cell", cell.id],
  ];
}

const shownValue = (value) => (value.picture ? h("span", {}, pictureOf(value), value.label) : String(value.value));

function measured(cell) {
  const reference = referenceOf(cell);
  return [
    ["NFE", cell.nfe === null ? "" : String(cell.nfe)],
    ["Latency", isNumber(cell.latency_s) ? `${seconds(cell.latency_s)} (median of its like)` : "not timed"],
    [
      "This image",
      isNumber(cell.own_latency_s) ? `${seconds(cell.own_latency_s)}, solo` : cell.packed ? "made packed" : "",
    ],
    ...[...metrics.values()].map((metric) => [
      metric.label,
      metric.name in cell.metrics ? digits(cell.metrics[metric.name], 4) : "",
    ]),
    ["Reference known to", isNumber(reference?.uncertainty) ? `${digits(reference.uncertainty)} RMSE` : ""],
    ["Peak memory", cell.peak_memory_bytes === null ? "" : mebibytes(cell.peak_memory_bytes)],
  ];
}

// Each option on a line if it can be; a browser breaks one after its hyphens
function unbroken(text) {
  return text.split(/ (?=-)/).flatMap((part, i) => [i ? " " : "", h("span", { class: "part" }, part)]);
}

function commandBox(cell) {
  const told = h("span", { role: "status" });
  const copier = (name, text, key) => {
    const press = async (event) => {
      await copy(text, event.currentTarget ?? told);
      told.textContent = "copied";
    };
    return button(name, press, { "data-key": key });
  };
  const python = program(cell);
  return h(
    "div",
    { class: "command" },
    h("code", { id: "command", tabindex: 0 }, unbroken(command(cell))),
    h(
      "div",
      { class: "row-of" },
      copier("Copy", command(cell), "copy"),
      python ? copier("Copy as diffusers program", python, "python") : null,
      told,
    ),
  );
}

function recipeParts(recipe) {
  const config = Object.entries(recipe.config).map(([key, value]) => [
    key,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
  const list = (numbers) => h("p", { class: "numbers" }, numbers.map((n) => digits(n, 5)).join("  "));
  return [
    h("details", {}, h("summary", {}, "Resolved scheduler config"), keyValues(config)),
    h("details", {}, h("summary", {}, `Timesteps (${recipe.timesteps.length})`), list(recipe.timesteps)),
    recipe.sigmas?.length
      ? h("details", {}, h("summary", {}, `Sigmas (${recipe.sigmas.length})`), list(recipe.sigmas))
      : null,
  ];
}

// The next cell in a direction of the grid that has anything to show
function step(rows, cols) {
  const start = placeOf(state.cell);
  if (!start) return;
  const {
    rows: { length: height },
    cols: { length: width },
  } = grid.layout;
  let [row, col] = [start[0] + rows, start[1] + cols];
  for (; row >= 0 && row < height && col >= 0 && col < width; row += rows, col += cols) {
    const [cell] = grid.layout.at(row, col);
    if (!cell) continue;
    moveTo(row, col, false);
    return openCell(cell.id);
  }
  return null;
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

lightbox.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input")) return;
  const act = LIGHTBOX_KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
lightbox.addEventListener("close", () => {
  if (state.cell) set({ cell: "" });
  const last = state.view === "images" && placeOf(shownLast);
  if (last) moveTo(...last); // not where it was opened: the browser would go back there
});
lightbox.addEventListener("click", (event) => event.target === lightbox && lightbox.close());
