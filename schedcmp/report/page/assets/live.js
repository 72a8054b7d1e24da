// A page of a run that goes on loads itself again, unless somebody is busy with it.

import { $, h, recall, remember } from "./dom.js";
import { plural } from "./format.js";
import { cells, run } from "./run.js";
import { state } from "./state.js";
import { scroller } from "./grid.js";

const RELOAD_MS = 10_000;
const PLACE = `schedcmp-place-${run.id}`;

export function drawLive() {
  if (!run.running) return;
  const onchange = () => remember(`${PLACE}-follow`, box.checked);
  const box = h("input", { type: "checkbox", id: "follow", checked: recall(`${PLACE}-follow`, true), onchange });
  const remaining = run.planned - cells.length;
  $("live").replaceChildren(
    `The run goes on: ${remaining.toLocaleString("en")} of ${plural(run.planned, "cell")} to come. `,
    h("label", box, " load anew every 10 s"),
  );
  $("live").hidden = false;
  setInterval(() => box.checked && !isBusy() && reload(), RELOAD_MS);
}

const isBusy = () =>
  document.hidden ||
  state.view === "blind" ||
  document.querySelector("dialog[open]") ||
  document.activeElement?.matches("input, select");

function reload() {
  sessionStorage.setItem(PLACE, JSON.stringify([scroller.scrollTop, scroller.scrollLeft]));
  location.reload();
}

export function backToPlace() {
  try {
    [scroller.scrollTop, scroller.scrollLeft] = JSON.parse(sessionStorage.getItem(PLACE)) ?? [0, 0];
    sessionStorage.removeItem(PLACE);
  } catch {
    scroller.scrollTop = 0;
  }
}
