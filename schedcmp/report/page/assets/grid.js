// The grid draws only what is in view, however many cells there are.

import { GAP, TILE_SIZES } from "./sizes.js";
import { $, h, keyed, pictureOf } from "./dom.js";
import { NONE, plural, seconds } from "./format.js";
import { at, axes, cells, describe, mark, values } from "./run.js";
import { state } from "./state.js";
import { isGallery, layOut, lines, resolved, visible } from "./layout.js";
import { captionHeight, fittingTile, legend, paint, square, tile, tints } from "./tiles.js";
import { openCell } from "./lightbox.js";

const OVERSCAN = 1; // rows and columns beyond the view

export const grid = {
  layout: null,
  tile: TILE_SIZES.m,
  tint: null,
  drawn: new Map(),
  at: [0, 0],
  canvas: null,
  head: null,
};
export const scroller = $("grid");

const cellSize = () => ({ width: grid.tile + GAP, height: grid.tile + captionHeight() + GAP });

function sizeTiles() {
  const [width, height] = [scroller.clientWidth - start() - GAP, scroller.clientHeight - headHeight()];
  const count = isGallery()
    ? Math.max(1, Math.floor(width / (TILE_SIZES.m + GAP)))
    : lines(visible(), resolved(state.cols)).length;
  grid.tile = square(TILE_SIZES[state.tile] ?? fittingTile(count, width, height));
}

const headWidth = () =>
  isGallery() || !state.rows ? 0 : Math.min(190, Math.max(84, Math.round(scroller.clientWidth * 0.2)));
const start = () => headWidth() || GAP; // px, where the first column begins
const hasPictures = (axis) => values(resolved(axis)).some((value) => value.picture);
const headHeight = () =>
  isGallery() || !state.cols ? 0 : state.cols === "prompt" ? 48 : hasPictures(state.cols) ? 84 : 30;

const across = () => Math.max(1, Math.floor((scroller.clientWidth - start() - GAP) / cellSize().width));

export function drawGrid() {
  sizeTiles();
  grid.layout = layOut(across());
  grid.tint = tints(grid.layout.shown);
  grid.drawn = new Map();
  const { rows, cols, shown } = grid.layout;
  const size = cellSize();
  grid.at = [Math.min(grid.at[0], Math.max(0, rows.length - 1)), Math.min(grid.at[1], Math.max(0, cols.length - 1))];
  grid.canvas = h("div.canvas", {
    role: "grid",
    "aria-label": "Images",
    "aria-rowcount": rows.length + (headHeight() ? 1 : 0),
    "aria-colcount": cols.length + (headWidth() ? 1 : 0),
    style: {
      width: `${start() + cols.length * size.width + GAP}px`,
      height: `${headHeight() + rows.length * size.height + GAP}px`,
      "--tile": `${grid.tile}px`,
      "--head": `${headWidth()}px`,
    },
  });
  grid.head = headHeight() ? headRow() : null;
  if (grid.head) grid.canvas.append(grid.head.element);
  const nothing = h("p.empty", cells.length ? "No cell fits this choice." : "No cell is finished yet.");
  scroller.replaceChildren(shown.length ? grid.canvas : nothing);
  $("count").textContent = `${plural(shown.length, "cell")} shown`;
  $("prompt").replaceChildren(...sharedPictures(shown), sharedPrompt(shown));
  $("legend").replaceChildren(...legend(shown));
  drawView();
}

function sharedPrompt(shown) {
  const prompts = new Set(shown.map((cell) => at(cell, "prompt").text));
  return prompts.size === 1 ? `“${[...prompts][0].trim()}”` : "";
}

// What all that is shown was given
function sharedPictures(shown) {
  const shared = Object.keys(axes).filter((axis) => new Set(shown.map((cell) => at(cell, axis))).size === 1);
  return shared.flatMap((axis) => {
    const value = at(shown[0], axis);
    return value.picture ? [h("span.shared", { title: value.label }, pictureOf(value))] : [];
  });
}

function headRow() {
  const titles = [`${axes[state.rows]?.title} ↓`, `${axes[state.cols]?.title} →`].map((text) => h("span", text));
  const corner = headWidth() ? h("div.corner-cell", { role: "columnheader" }, titles) : null;
  const style = { height: `${headHeight()}px` };
  return { element: h("div.head-row", { role: "row", "aria-rowindex": 1, style }, corner), cells: new Map() };
}

// The first and last row and column in view, with some beyond
function range() {
  const size = cellSize();
  const { rows, cols } = grid.layout;
  const span = (start, length, step, count) => [
    Math.max(0, Math.floor(start / step) - OVERSCAN),
    Math.min(count, Math.ceil((start + length) / step) + OVERSCAN),
  ];
  return {
    rows: span(scroller.scrollTop - headHeight(), scroller.clientHeight, size.height, rows.length),
    cols: span(scroller.scrollLeft - start(), scroller.clientWidth, size.width, cols.length),
  };
}

function drawView() {
  if (!grid.layout?.shown.length || !scroller.clientHeight) return;
  const view = range();
  keepOnly(grid.drawn, view.rows);
  if (grid.head) fillRow(grid.head, view.cols, colHead);
  for (let row = view.rows[0]; row < view.rows[1]; row++) {
    if (!grid.drawn.has(row)) grid.drawn.set(row, newRow(row));
    fillRow(grid.drawn.get(row), view.cols, (col) => place(row, col));
  }
}

function keepOnly(map, [first, end]) {
  for (const [key, drawn] of map) {
    if (key >= first && key < end) continue;
    (drawn.element ?? drawn).remove();
    map.delete(key);
  }
}

function fillRow(drawn, cols, make) {
  keepOnly(drawn.cells, cols);
  for (let col = cols[0]; col < cols[1]; col++) {
    if (drawn.cells.has(col)) continue;
    drawn.cells.set(col, make(col));
    drawn.element.append(drawn.cells.get(col));
  }
}

function colHead(col) {
  const value = grid.layout.cols[col];
  const properties = { role: "columnheader", dir: "auto", title: value.text, style: left(col) };
  return h("div.col-head", properties, pictureOf(value), h("span", value.text ?? value.label));
}

const left = (col) => ({ left: `${start() + col * cellSize().width + GAP / 2}px` });

function newRow(row) {
  const value = grid.layout.rows[row];
  const { height } = cellSize();
  const style = { top: `${headHeight() + row * height + GAP / 2}px`, height: `${height - GAP}px` };
  const name = h("span", { dir: "auto", title: value.text }, value.text ?? value.label);
  const head = headWidth() ? h("div.row-head", { role: "rowheader" }, pictureOf(value), name) : null;
  const element = h("div.row", { role: "row", "aria-rowindex": row + 1 + (grid.head ? 1 : 0), style }, head);
  grid.canvas.append(element);
  return { element, cells: new Map() };
}

function place(row, col) {
  const here = grid.layout.at(row, col);
  const current = grid.at[0] === row && grid.at[1] === col;
  const element = h("div.place", {
    role: "gridcell",
    tabindex: current ? 0 : -1,
    "aria-colindex": col + 1 + (headWidth() ? 1 : 0),
    "aria-label": here.length ? spoken(here[0]) : "no image",
    style: left(col),
    onfocus: () => moveTo(row, col, false),
  });
  if (here.length) {
    element.append(tile(here[0], here.length));
    paint(element.firstChild, grid.tint(here[0]));
  } else if (!isGallery()) element.append(h("div.blank", NONE));
  return element;
}

const spoken = (cell) =>
  [describe(cell), seconds(cell.latency_s), cell.status, mark(cell) ?? cell.reason].filter(Boolean).join(", ");

const elementAt = (row, col) => grid.drawn.get(row)?.cells.get(col);

export function moveTo(row, col, focus = true) {
  const { rows, cols } = grid.layout;
  elementAt(...grid.at)?.setAttribute("tabindex", -1);
  grid.at = [Math.max(0, Math.min(row, rows.length - 1)), Math.max(0, Math.min(col, cols.length - 1))];
  bringIntoView(...grid.at);
  drawView();
  const element = elementAt(...grid.at);
  element?.setAttribute("tabindex", 0);
  if (focus) element?.focus({ preventScroll: true });
}

function bringIntoView(row, col) {
  const size = cellSize();
  const into = (start, length, low, high) => (low < start ? low : high > start + length ? high - length : start);
  const [top, start] = [row * size.height, col * size.width];
  const [height, width] = [scroller.clientHeight - headHeight(), scroller.clientWidth - headWidth()];
  scroller.scrollTop = into(scroller.scrollTop, height, top, top + size.height + GAP);
  scroller.scrollLeft = into(scroller.scrollLeft, width, start, start + size.width + GAP);
}

const moveBy = (rows, cols) => moveTo(grid.at[0] + rows, grid.at[1] + cols);
const page = () => Math.max(1, Math.floor(scroller.clientHeight / cellSize().height));

function openHere() {
  const [cell] = grid.layout.at(...grid.at);
  if (cell) openCell(cell.id);
}

const GRID_KEYS = {
  ArrowUp: () => moveBy(-1, 0),
  ArrowDown: () => moveBy(1, 0),
  ArrowLeft: () => moveBy(0, -1),
  ArrowRight: () => moveBy(0, 1),
  PageUp: () => moveBy(-page(), 0),
  PageDown: () => moveBy(page(), 0),
  Home: () => moveBy(0, -Infinity),
  End: () => moveBy(0, Infinity),
  Enter: openHere,
  " ": openHere,
};

export function placeOf(id) {
  const { rows, cols } = grid.layout;
  for (let row = 0; row < rows.length; row++)
    for (let col = 0; col < cols.length; col++) if (grid.layout.at(row, col)[0]?.id === id) return [row, col];
  return null;
}

scroller.addEventListener("scroll", () => requestAnimationFrame(drawView), { passive: true });
scroller.addEventListener(
  "keydown",
  keyed(GRID_KEYS, (event) => !event.target.closest(".place")),
);
new ResizeObserver(() => state.view === "images" && grid.layout && drawGrid()).observe(scroller);
