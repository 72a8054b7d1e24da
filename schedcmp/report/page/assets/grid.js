// The grid draws only what is in view, however many cells there are.

import { GAP, TILE_SIZES } from "./sizes.js";
import { $, h, pictureOf } from "./dom.js";
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

function cellSize() {
  return { width: grid.tile + GAP, height: grid.tile + captionHeight() + GAP };
}

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

function across() {
  return Math.max(1, Math.floor((scroller.clientWidth - start() - GAP) / cellSize().width));
}

export function drawGrid() {
  sizeTiles();
  grid.layout = layOut(across());
  grid.tint = tints(grid.layout.shown);
  grid.drawn = new Map();
  const { rows, cols, shown } = grid.layout;
  const size = cellSize();
  grid.at = [Math.min(grid.at[0], Math.max(0, rows.length - 1)), Math.min(grid.at[1], Math.max(0, cols.length - 1))];
  grid.canvas = h("div", {
    class: "canvas",
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
  const nothing = h("p", { class: "empty" }, cells.length ? "No cell fits this choice." : "No cell is finished yet.");
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
    return value.picture ? [h("span", { class: "shared", title: value.label }, pictureOf(value))] : [];
  });
}

function headRow() {
  const corner = headWidth() ? h("div", { class: "corner-cell", role: "columnheader" }, ...cornerText()) : null;
  const element = h(
    "div",
    { class: "head-row", role: "row", "aria-rowindex": 1, style: { height: `${headHeight()}px` } },
    corner,
  );
  return { element, cells: new Map() };
}

const cornerText = () =>
  [`${axes[state.rows]?.title} ↓`, `${axes[state.cols]?.title} →`].map((text) => h("span", {}, text));

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
  keepOnly(grid.drawn, view.rows, (row) => row.element.remove());
  if (grid.head) drawHead(grid.head, view.cols);
  for (let row = view.rows[0]; row < view.rows[1]; row++) {
    if (!grid.drawn.has(row)) grid.drawn.set(row, newRow(row));
    fillRow(grid.drawn.get(row), row, view.cols);
  }
}

function keepOnly(map, [first, end], drop) {
  for (const [key, value] of map) {
    if (key >= first && key < end) continue;
    drop(value);
    map.delete(key);
  }
}

function drawHead(head, cols) {
  keepOnly(head.cells, cols, (element) => element.remove());
  for (let col = cols[0]; col < cols[1]; col++) {
    if (head.cells.has(col)) continue;
    const value = grid.layout.cols[col];
    const { label: text, text: full } = value;
    const element = h(
      "div",
      { class: "col-head", role: "columnheader", dir: "auto", title: full, style: left(col) },
      pictureOf(value),
      h("span", {}, full ?? text),
    );
    head.cells.set(col, element);
    head.element.append(element);
  }
}

const left = (col) => ({ left: `${start() + col * cellSize().width + GAP / 2}px` });

function newRow(row) {
  const value = grid.layout.rows[row];
  const { label: text, text: full } = value;
  const size = cellSize();
  const top = `${headHeight() + row * size.height + GAP / 2}px`;
  const head = headWidth()
    ? h(
        "div",
        { class: "row-head", role: "rowheader" },
        pictureOf(value),
        h("span", { dir: "auto", title: full }, full ?? text),
      )
    : null;
  const element = h(
    "div",
    {
      class: "row",
      role: "row",
      "aria-rowindex": row + 1 + (grid.head ? 1 : 0),
      style: { top, height: `${size.height - GAP}px` },
    },
    head,
  );
  grid.canvas.append(element);
  return { element, cells: new Map() };
}

function fillRow(drawn, row, cols) {
  keepOnly(drawn.cells, cols, (element) => element.remove());
  for (let col = cols[0]; col < cols[1]; col++) {
    if (drawn.cells.has(col)) continue;
    const element = place(row, col);
    drawn.cells.set(col, element);
    drawn.element.append(element);
  }
}

function place(row, col) {
  const here = grid.layout.at(row, col);
  const current = grid.at[0] === row && grid.at[1] === col;
  const element = h("div", {
    class: "place",
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
  } else if (!isGallery()) element.append(h("div", { class: "blank" }, NONE));
  return element;
}

const spoken = (cell) =>
  [describe(cell), seconds(cell.latency_s), cell.status, mark(cell) ?? cell.reason].filter(Boolean).join(", ");

const elementAt = (row, col) => grid.drawn.get(row)?.cells.get(col);

function moveTo(row, col, focus = true) {
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

function gridKey(event) {
  const [row, col] = grid.at;
  const page = Math.max(1, Math.floor(scroller.clientHeight / cellSize().height));
  const moves = {
    ArrowUp: [row - 1, col],
    ArrowDown: [row + 1, col],
    ArrowLeft: [row, col - 1],
    ArrowRight: [row, col + 1],
    PageUp: [row - page, col],
    PageDown: [row + page, col],
    Home: [row, 0],
    End: [row, Infinity],
  };
  if (moves[event.key] && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    moveTo(...moves[event.key]);
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    const [cell] = grid.layout.at(row, col);
    if (cell) openCell(cell.id);
  }
}

export function placeOf(id) {
  const { rows, cols } = grid.layout;
  for (let row = 0; row < rows.length; row++)
    for (let col = 0; col < cols.length; col++) if (grid.layout.at(row, col)[0]?.id === id) return [row, col];
  return null;
}

scroller.addEventListener("scroll", () => requestAnimationFrame(drawView), { passive: true });
scroller.addEventListener("keydown", (event) => event.target.closest(".place") && gridKey(event));
new ResizeObserver(() => state.view === "images" && grid.layout && drawGrid()).observe(scroller);
