// Tabs, theme, keys, and who draws what when the state changes.

import { $, button, h, keyed, recall, remember } from "./dom.js";
import { isSelector, onChange, readAddress, set, state, touches } from "./state.js";
import { drawGrid } from "./grid.js";
import { drawLightbox } from "./lightbox.js";
import { drawToolbar } from "./toolbar.js";
import { drawPlots } from "./scatter.js";
import { drawTimings } from "./timings.js";
import { drawFacts, drawFinding, drawOverview } from "./overview.js";
import { drawBlind } from "./blind.js";
import { backToPlace, drawLive } from "./live.js";

export const VIEWS = [
  ["images", "Images"],
  ["plots", "Plots"],
  ["timings", "Timings"],
  ["blind", "Blind"],
  ["run", "Answer"],
];
const DRAWN = { plots: drawPlots, timings: drawTimings, blind: drawBlind, run: drawOverview };

function drawTabs() {
  $("views").replaceChildren();
  for (const [name, text] of VIEWS) {
    const isShown = name === state.view;
    const aria = { role: "tab", "aria-selected": String(isShown), "aria-controls": `view-${name}` };
    const properties = { id: `tab-${name}`, tabindex: isShown ? 0 : -1, ...aria };
    $("views").append(button(text, () => set({ view: name }), properties));
    $(`view-${name}`).hidden = !isShown;
  }
  $("finding").hidden = state.view === "blind"; // who knows the answer is not blind
}

function nextTab(by) {
  const place = VIEWS.findIndex(([name]) => name === state.view);
  set({ view: VIEWS[(place + by + VIEWS.length) % VIEWS.length][0] });
  $(`tab-${state.view}`).focus();
}

function draw(changed) {
  const chosenAnew = [...changed].some(isSelector) || touches(changed, "view");
  if (touches(changed, "view")) drawTabs();
  if (state.view === "images")
    drawImages(changed, chosenAnew || touches(changed, "rows", "cols", "sort", "down", "status"));
  else if (chosenAnew || touches(changed, "x", "y", "by")) DRAWN[state.view](changed);
  if (touches(changed, "cell", "with", "mode")) drawLightbox(changed);
}

// The filter keeps its caret: typing does not draw the toolbar again
function drawImages(changed, chosenAnew) {
  if (chosenAnew || touches(changed, "q", "tint", "show", "tile")) drawGrid();
  if (chosenAnew) drawToolbar();
}

const THEMES = ["light dark", "light", "dark"];

function theme(wanted) {
  document.documentElement.style.setProperty("color-scheme", wanted);
  const name = { "light dark": "Auto", light: "Light", dark: "Dark" }[wanted];
  $("theme").textContent = `◐ ${name}`;
  $("theme").setAttribute("aria-label", `Theme: ${name}`);
  remember("schedcmp-theme", wanted);
}

function nextTheme() {
  const now = document.documentElement.style.getPropertyValue("color-scheme");
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
}

const KEYS = [
  ["← ↑ → ↓", "move among the images, small or full size"],
  ["Enter", "the image in full size"],
  ["Esc", "back"],
  ["C", "full size: next way to compare"],
  ["P", "full size: compare others with this image"],
  ["X", "full size, blinking: swap by hand"],
  ["← ↓ →", "blind: left is better, no difference, right is better"],
  ["S, U", "blind: skip, undo"],
  ["/", "filter"],
  ["1 to 5", "the views"],
  ["?", "this list"],
];

function drawKeys() {
  const rows = KEYS.flatMap(([key, text]) => [h("dt", h("kbd", key)), h("dd", text)]);
  $("keys").replaceChildren(
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl.pairs", rows),
    button("Close", () => $("keys").close(), { autofocus: true }),
  );
  $("keys").addEventListener("click", (event) => event.target === $("keys") && $("keys").close());
}

function findFilter() {
  set({ view: "images" });
  toolbar.querySelector("details").open = true;
  toolbar.elements.q.focus();
}

const showKeys = () => $("keys").showModal();
const isTyping = (event) => event.target.closest("input, select, textarea");
const isCovered = (event) => isTyping(event) || document.querySelector("dialog[open]");
const toViews = VIEWS.map(([name], i) => [i + 1, () => set({ view: name })]);

document.addEventListener("keydown", keyed({ "/": findFilter, ...Object.fromEntries(toViews) }, isCovered));
document.addEventListener(
  "keydown",
  keyed({ "?": showKeys }, (event) => isTyping(event) || $("keys").open),
);
$("views").addEventListener("keydown", keyed({ ArrowLeft: () => nextTab(-1), ArrowRight: () => nextTab(1) }));
$("theme").addEventListener("click", nextTheme);
$("help").addEventListener("click", showKeys);

theme(THEMES.includes(recall("schedcmp-theme", "")) ? recall("schedcmp-theme", "") : THEMES[0]);
drawKeys();
drawFacts();
drawFinding();
drawLive();
readAddress();
onChange(draw);
draw(new Set(["view", "cell"]));
backToPlace();
