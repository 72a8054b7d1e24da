// Tabs, theme, keys, and who draws what when the state changes.

import { $, button, h, recall, remember } from "./dom.js";
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
  const isShown = (name) => name === state.view;
  $("views").replaceChildren(
    ...VIEWS.map(([name, text]) =>
      button(text, () => set({ view: name }), {
        id: `tab-${name}`,
        role: "tab",
        "aria-selected": String(isShown(name)),
        "aria-controls": `view-${name}`,
        tabindex: isShown(name) ? 0 : -1,
      }),
    ),
  );
  for (const [name] of VIEWS) $(`view-${name}`).hidden = !isShown(name);
  $("finding").hidden = state.view === "blind"; // who knows the answer is not blind
}

function tabKey(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
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
  const rows = KEYS.flatMap(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)]);
  $("keys").replaceChildren(
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl", { class: "pairs" }, rows),
    button("Close", () => $("keys").close(), { autofocus: true }),
  );
  $("keys").addEventListener("click", (event) => event.target === $("keys") && $("keys").close());
}

function findFilter() {
  set({ view: "images" });
  toolbar.querySelector("details").open = true;
  toolbar.elements.q.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "?" && !$("keys").open) $("keys").showModal();
  else if (document.querySelector("dialog[open]")) return;
  else if (event.key === "/") findFilter();
  else if (VIEWS[Number(event.key) - 1]) set({ view: VIEWS[Number(event.key) - 1][0] });
  else return;
  event.preventDefault();
});

$("views").addEventListener("keydown", tabKey);
$("theme").addEventListener("click", nextTheme);
$("help").addEventListener("click", () => $("keys").showModal());

theme(THEMES.includes(recall("schedcmp-theme", "")) ? recall("schedcmp-theme", "") : THEMES[0]);
drawKeys();
drawFacts();
drawFinding();
drawLive();
readAddress();
onChange(draw);
draw(new Set(["view", "cell"]));
backToPlace();
