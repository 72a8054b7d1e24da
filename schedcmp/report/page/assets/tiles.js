// One cell as a tile: its image or why there is none, its caption, its mark.

import { GAP, TILE_SIZES } from "./sizes.js";
import { h } from "./dom.js";
import { NONE, isNumber, seconds } from "./format.js";
import { address, cells, describe, isStill, isVideo, label, mark, measures, metrics, smallImage } from "./run.js";
import { state } from "./state.js";
import { chosen, isGallery, resolved, selectors } from "./layout.js";
import { grid } from "./grid.js";
import { openCell } from "./lightbox.js";

const LINE = 16; // px
export const captionHeight = () => (isGallery() ? 4 : 2) * LINE + 8;

export function tile(cell, more) {
  const wrong = cell.status === "failed" || cell.status === "unsupported";
  return h(
    `div.tile.${cell.status}${cell.inert ? ".inert" : ""}`,
    { "data-id": cell.id, title: mark(cell) ?? cell.reason, onclick: () => openCell(cell.id) },
    h("div.picture", cell.image ? picture(cell) : trouble(cell)),
    wrong ? null : caption(cell, more),
  );
}

function picture(cell) {
  const crisp = !cell.thumb && (cell.width ?? 0) < grid.tile ? ".crisp" : "";
  const about = { alt: describe(cell), loading: "lazy", decoding: "async", draggable: "false" };
  const show = (src) => (event) => event.target.setAttribute("src", src);
  const playing = { onpointerenter: show(address(cell.image)), onpointerleave: show(smallImage(cell)) };
  const moving = isVideo(cell) && !isStill.matches ? playing : {};
  const onerror = (event) => lose(cell, event.target);
  return h(`img${crisp}`, { src: smallImage(cell), ...about, ...moving, onerror });
}

function lose(cell, image) {
  if (image.src.endsWith(address(cell.image)) || !cell.thumb) {
    cell.lost = true;
    image.replaceWith(lostImage(cell));
  } else image.src = address(cell.image);
}

export const lostImage = (cell) => {
  const reason = `${cell.image}; a page shows what lies beside it, so keep it in its run's folder`;
  return trouble({ ...cell, status: "image not readable", reason });
};

export function trouble(cell) {
  const title = `${cell.status === "unsupported" ? "" : "✕ "}${cell.status}`;
  return h("div.trouble", h("strong", title), h("span", { dir: "auto" }, cell.reason ?? "no image"));
}

function caption(cell, more) {
  const first = [seconds(cell.latency_s), measures.get("nfe").text(cell.nfe)].filter((text) => text !== NONE);
  const marked = mark(cell);
  const measure = metrics.has(state.show) ? measures.get(state.show) : null;
  const second =
    marked ?? (measure && isNumber(measure.of(cell)) ? `${measure.short} ${measure.text(measure.of(cell))}` : "");
  return h(
    "div.caption",
    { style: { height: `${captionHeight() - 2}px` } },
    isGallery() ? namesInGallery(cell) : null,
    h("div", first.join(" · ") || NONE, more > 1 ? h("span.more", ` 1 of ${more}`) : null),
    h(marked ? "div.mark" : "div.measure", marked ? `⚠ ${second}` : second),
  );
}

// What tells a cell from the others of the gallery, in two lines: its scheduler, and the rest
function namesInGallery(cell) {
  const free = selectors().filter((axis) => chosen(axis) < 0 && axis !== "scheduler");
  const rest = free.map((axis) => label(cell, resolved(axis))).join(", ");
  return [h("strong", label(cell, "scheduler")), h("div", rest)];
}

// Tints: 0 the worst of what is shown, 1 the best; by logarithm where values span more than a factor of ten
export function tints(shown) {
  const measure = measures.get(state.tint);
  if (!measure) return () => null;
  const [low, high] = extent(shown, measure);
  const scale = low > 0 && high / low > 10 ? Math.log : (value) => value;
  return (cell) => {
    const value = measure.of(cell);
    if (!isNumber(value) || high === low) return null;
    const part = (scale(value) - scale(low)) / (scale(high) - scale(low));
    return measure.higher === false ? 1 - part : part;
  };
}

function extent(shown, measure) {
  const found = shown.map(measure.of).filter(isNumber);
  return [least(found), most(found)];
}

export function legend(shown) {
  const measure = measures.get(state.tint);
  const ends = measure ? extent(shown, measure) : [NaN, NaN];
  if (!ends.every(isNumber)) return [];
  if (measure.higher === false) ends.reverse();
  return [h("span", `${measure.label} ${measure.text(ends[0])}`), h("i.ramp"), h("span", measure.text(ends[1]))];
}

export const least = (numbers) => numbers.reduce((a, b) => Math.min(a, b), Infinity);
export const most = (numbers) => numbers.reduce((a, b) => Math.max(a, b), -Infinity);

export function paint(element, part) {
  element.classList.toggle("tinted", part !== null);
  if (part !== null) element.style.setProperty("--part", `${(part * 100).toFixed(1)}%`);
}

const nativeSide = most(cells.map((cell) => Math.max(cell.width ?? 0, cell.height ?? 0)));

// As wide as `count` columns in `width` px may be, and low enough for two and a half rows in `height` px
export function fittingTile(count, width, height) {
  const room = Math.min(width / count - GAP, height / 2.5 - captionHeight() - GAP);
  return Math.max(TILE_SIZES.s, Math.min(TILE_SIZES.l, Math.floor(room)));
}

// Small images in whole multiples, so that their pixels stay square
export const square = (side) => (nativeSide < side ? Math.max(1, Math.round(side / nativeSide)) * nativeSide : side);
