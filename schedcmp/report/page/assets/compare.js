// Two images of one place: a slider, blinking, their difference, or side by side. All of it is CSS, since a canvas
// may not read the pixels of a page that was opened from disk.

import { $, button, field, h } from "./dom.js";
import { digits } from "./format.js";
import { address, axes, byId, describe, isMade, isStill, isVideo, label, run, smallImage, tasks } from "./run.js";
import { state } from "./state.js";
import { lostImage, trouble } from "./tiles.js";

export const MODES = [
  ["single", "One image"],
  ["slider", "Slider"],
  ["blink", "Blink"],
  ["difference", "Difference"],
  ["beside", "Side by side"],
];
const BLINK_MS = 600;
export const compare = { timer: 0, split: 50, gain: 4 };

export const referenceOf = (cell) => run.references[cell.task];
const peers = (cell) => tasks.get(cell.task).filter((other) => other !== cell && isMade(other));

// {image, name, width, height} of what a cell is compared with, or null
export function otherOf(cell) {
  if (state.with === "reference") return converged(cell);
  const other = byId.get(state.with);
  return other && other !== cell && isMade(other) ? { ...other, name: nameBeside(other, cell) } : null;
}

function converged(cell) {
  const found = referenceOf(cell);
  return found?.image ? { ...cell, image: found.image, thumb: null, name: "converged image" } : null;
}

function nameBeside(other, cell) {
  return other.task === cell.task ? `${label(other, "scheduler")}, ${label(other, "steps")}` : describe(other);
}

// The like of the compared cell where another task is shown
export function follow(cell) {
  const other = byId.get(state.with);
  if (!other || state.pin || other.task === cell.task) return state.with;
  const like = (axis) => (candidate) => candidate.at[axes[axis].place] === other.at[axes[axis].place];
  return peers(cell).filter(like("scheduler")).find(like("steps"))?.id ?? state.with;
}

// Where nothing is chosen: the converged image, else the longest trajectory
export function standard(cell) {
  if (converged(cell)) return "reference";
  return peers(cell).reduce((best, other) => ((other.nfe ?? 0) > (best?.nfe ?? -1) ? other : best), null)?.id ?? "";
}

export function choices(cell) {
  const other = byId.get(state.with);
  const pinned = other && other !== cell && other.task !== cell.task ? [[other.id, describe(other)]] : [];
  const reference = converged(cell) ? [["reference", "converged image"]] : [];
  return [...reference, ...pinned, ...peers(cell).map((peer) => [peer.id, nameBeside(peer, cell)])];
}

function fullImage(shown, name) {
  const src = isVideo(shown) && isStill.matches ? smallImage(shown) : address(shown.image);
  const onload = (event) => fit(event.target.closest(".stage"));
  const onerror = (event) => event.target.replaceWith(lostImage(shown));
  return h("img.full", { src, alt: name, draggable: "false", onload, onerror });
}

// The stage of the lightbox, with the controls that its mode has
export function stage(cell) {
  clearInterval(compare.timer);
  const other = state.mode === "single" ? null : otherOf(cell);
  if (!isMade(cell)) return [h("div.stage", trouble(cell))];
  const first = fullImage(cell, describe(cell));
  if (!other) return [h("div.stage.single", first)];
  const second = fullImage(other, other.name);
  return { slider, blink, difference, beside }[state.mode](first, second, nameBeside(cell, cell), other.name);
}

const stacked = (mode, layers, names) => h(`div.stage.${mode}`, h("div.stack", layers), names);
const tag = (side, text) => h(`span.tag.${side}`, { dir: "auto" }, text);
const rangeInput = (name, max, value, oninput) =>
  h("input", { type: "range", min: 0, max, step: 0.5, value, "aria-label": name, oninput });

function slider(first, second, name, otherName) {
  const box = stacked("slider", [second, first, h("i.seam"), tag("a", name), tag("b", otherName)]);
  const split = rangeInput(`From ${otherName} to ${name}`, 100, compare.split, () => move(split.valueAsNumber));
  const move = (part) => {
    compare.split = Math.max(0, Math.min(100, part));
    box.style.setProperty("--split", `${compare.split}%`);
    split.value = compare.split;
  };
  const drag = (event) => {
    if (!event.buttons && event.type !== "pointerdown") return;
    const edge = first.getBoundingClientRect();
    move((100 * (event.clientX - edge.left)) / edge.width);
  };
  box.addEventListener("pointerdown", (event) => {
    box.setPointerCapture(event.pointerId);
    drag(event);
  });
  box.addEventListener("pointermove", drag);
  move(compare.split);
  return [box, field("Split", split)];
}

function blink(first, second, name, otherName) {
  const box = stacked("blink", [second, first, tag("a", name), tag("b", otherName)]);
  const swap = () => box.classList.toggle("other");
  const running = button("Blink", () => play(running.getAttribute("aria-pressed") !== "true"));
  const play = (on) => {
    clearInterval(compare.timer);
    running.setAttribute("aria-pressed", String(on));
    if (on) compare.timer = setInterval(swap, BLINK_MS);
  };
  const swapByHand = () => {
    play(false);
    swap();
  };
  play(!isStill.matches);
  return [box, h("div.row-of", running, button("Swap", swapByHand, { "data-key": "x" }))];
}

function difference(first, second, name, otherName) {
  const names = h("div.names", tag("a", `|${name} − ${otherName}|`)); // not amplified
  const box = stacked("difference", [second, first], names);
  const gain = rangeInput("Amplification", 5, Math.log2(compare.gain), () => amplify());
  const shown = h("output");
  const amplify = () => {
    compare.gain = 2 ** gain.valueAsNumber;
    box.style.setProperty("--gain", compare.gain);
    shown.textContent = `× ${digits(compare.gain, 2)}`;
  };
  amplify();
  return [box, field("Amplified", h("span.row-of", gain, shown))];
}

function beside(first, second, name, otherName) {
  const figure = (image, text) => h("figure", image, h("figcaption", { dir: "auto" }, text));
  return [h("div.stage.beside", figure(first, name), figure(second, otherName))];
}

// Small images are enlarged by whole numbers, so that their pixels stay square
export const whole = (factor) => (factor >= 2 ? Math.floor(factor) : factor);

// Images as large as there is room
export function fit(box) {
  if (!box) return;
  const images = [...box.querySelectorAll("img.full")].filter((image) => image.naturalWidth);
  const share = box.classList.contains("beside") && box.clientWidth > 500 ? 2 : 1;
  const tall = box.classList.contains("beside") && share === 1 ? 2 : 1;
  const [width, height] = [box.clientWidth / share - 16, box.clientHeight / tall - (tall > 1 || share > 1 ? 40 : 16)];
  const first = images[0];
  if (!first || width <= 0 || height <= 0) return;
  const factor = Math.min(width / first.naturalWidth, height / first.naturalHeight);
  const scale = whole(factor);
  box.style.setProperty("--width", `${first.naturalWidth * scale}px`);
  box.style.setProperty("--height", `${first.naturalHeight * scale}px`);
  for (const image of images) image.classList.toggle("crisp", scale >= 2);
}

new ResizeObserver(() => fit($("lightbox").querySelector(".stage"))).observe($("lightbox"));
