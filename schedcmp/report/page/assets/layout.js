// Which cell goes where. A place may hold several cells where the axes do not tell them apart.

import { median } from "./format.js";
import { BASE, axes, cells, describe, group, hasStatus, measures, run, searchText, values, varies } from "./run.js";
import { state } from "./state.js";

export const isGallery = () => !state.rows && !state.cols;

function onAxes(name) {
  return state.rows === name || state.cols === name;
}

// Where sigma schedules or shifts are an axis, schedulers are named without them
const apart = () => onAxes("sigma_schedule") || onAxes("shift");
export const resolved = (axis) => (axis === "scheduler" && apart() ? BASE : axis);

export function selectors() {
  const free = run.axes.filter((axis) => axis.selects).map((axis) => axis.name);
  const taken = (axis) => onAxes(axis) || (axis === run.cost && (onAxes("steps") || onAxes("nfe")));
  return free.filter((axis) => !taken(axis) && varies(resolved(axis)));
}

export function chosen(axis) {
  const wanted = state[`at.${axis}`];
  const found = values(resolved(axis)).findIndex((value) => String(value.value) === wanted);
  return found >= 0 ? found : isGallery() ? -1 : 0;
}

export function visible() {
  const picks = selectors()
    .map((axis) => [axes[resolved(axis)].place, chosen(axis)])
    .filter(([, pick]) => pick >= 0);
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  return cells.filter(
    (cell) =>
      picks.every(([place, pick]) => cell.at[place] === pick) &&
      (!state.status || hasStatus(cell, state.status)) &&
      (!words.length || containsAll(searchText(cell), words)),
  );
}

const containsAll = (text, words) => words.every((word) => text.includes(word));

// {rows, cols: [{label, text}], at(row, col) → [cell], shown: [cell]}; a gallery fills `across` columns
export function layOut(across) {
  const shown = visible();
  return isGallery() ? gallery(shown, across) : table(shown);
}

function gallery(shown, across) {
  const ordered = sorted(shown, (cell) => [cell]);
  const blank = { label: "", text: null };
  return {
    shown: ordered,
    rows: Array.from({ length: Math.ceil(ordered.length / across) }, () => blank),
    cols: Array.from({ length: Math.min(across, Math.max(1, ordered.length)) }, () => blank),
    at: (row, col) => ordered.slice(row * across + col, row * across + col + 1),
  };
}

function table(shown) {
  const [rowAxis, colAxis] = [resolved(state.rows), resolved(state.cols)];
  const place = (cell, axis) => (axis ? cell.at[axes[axis].place] : 0);
  const places = group(shown, (cell) => `${place(cell, rowAxis)},${place(cell, colAxis)}`);
  const rows = lines(shown, rowAxis);
  const cols = lines(shown, colAxis).sort((a, b) => a.place - b.place);
  return {
    shown,
    rows: sorted(rows, (row) => row.cells),
    cols,
    at: (row, col) => places.get(`${rows[row].place},${cols[col].place}`) ?? [],
  };
}

export function lines(shown, axis) {
  if (!axis) return [{ label: "", text: null, place: 0, cells: shown }];
  const found = group(shown, (cell) => cell.at[axes[axis].place]);
  return [...found]
    .map(([place, members]) => ({ ...values(axis)[place], place, cells: members }))
    .sort((a, b) => a.place - b.place);
}

// Sorts in place; what has no value comes last
function sorted(items, cellsOf) {
  if (!state.sort) return state.down ? items.reverse() : items;
  const sign = state.down ? -1 : 1;
  if (state.sort === "name")
    return items.sort((a, b) => sign * nameOf(a, cellsOf).localeCompare(nameOf(b, cellsOf), "en", { numeric: true }));
  const key = new Map(items.map((item) => [item, median(cellsOf(item).map(measures.get(state.sort).of))]));
  const last = (value) => (Number.isNaN(value) ? 1 : 0);
  return items.sort((a, b) => last(key.get(a)) - last(key.get(b)) || sign * (key.get(a) - key.get(b)) || 0);
}

const nameOf = (item, cellsOf) => item.label ?? describe(cellsOf(item)[0]);
