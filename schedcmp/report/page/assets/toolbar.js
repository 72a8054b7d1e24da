// The choices above the grid.

import { $, field, h, select } from "./dom.js";
import { BASE, STATUSES, axes, cells, hasStatus, measures, metrics, values, varies } from "./run.js";
import { DEFAULTS, choose, set, state } from "./state.js";
import { chosen, isGallery, resolved, selectors } from "./layout.js";

const toolbar = $("toolbar");

export function drawToolbar() {
  const focused = toolbar.contains(document.activeElement) ? document.activeElement.name : null;
  toolbar.replaceChildren(
    h("div.row-of", axisChoice("rows", "Rows"), axisChoice("cols", "Columns"), ...selectors().map(selector)),
    h("details.more-tools", { open: moreOpen() }, h("summary", "Sort, filter, show"), h("div.row-of", ...tools())),
  );
  if (focused) toolbar.elements[focused]?.focus();
}

const moreOpen = () => toolbar.querySelector("details")?.open ?? !matchMedia("(max-width: 40rem)").matches;

function axisChoice(key, name) {
  const other = key === "rows" ? "cols" : "rows";
  const names = Object.keys(axes).filter((axis) => axis !== BASE);
  const usable = names.filter((axis) => varies(axis) || axis === state[key] || axis === DEFAULTS[key]);
  const swap = (value) => ({ [key]: value, ...(value && state[other] === value ? { [other]: state[key] } : {}) });
  const options = [...usable.map((axis) => [axis, axes[axis].title]), ["", "none"]];
  return select(name, options, state[key], (value) => set(swap(value)), { name: key });
}

export function selector(axis) {
  const all = isGallery() ? [["*", "all"]] : [];
  const name = (value) => (value.text === null ? String(value.value) || "none" : shortened(value));
  const found = values(resolved(axis)).map((value) => [String(value.value), name(value)]);
  const value = chosen(axis) < 0 ? "*" : found[chosen(axis)][0];
  const change = (v) => set({ [`at.${axis}`]: v === "*" ? null : v });
  return select(axes[axis].title, [...all, ...found], value, change, { name: `at.${axis}` });
}

function shortened({ value, text }) {
  const plain = text.length > 60 ? `${[...text].slice(0, 59).join("")}…` : text;
  return /^p(\d+|rompt)$/.test(value) ? plain : `${value}: ${plain}`;
}

const SIZES = [
  ["", "fitting"],
  ["s", "small"],
  ["m", "medium"],
  ["l", "large"],
  ["xl", "larger"],
];

function tools() {
  const measured = [...measures].map(([name, measure]) => [name, measure.short]);
  const captions = [["", "none"], ...measured.filter(([name]) => metrics.has(name))];
  const statuses = Object.entries(STATUSES).filter(([status]) => cells.some((cell) => hasStatus(cell, status)));
  return [
    choose("sort", "Sort rows by", [["", "sweep's order"], ["name", "name"], ...measured]),
    descending(),
    field("Filter", search()),
    statuses.length > 1 && choose("status", "Status", [["", "any"], ...statuses]),
    captions.length > 1 && choose("show", "Caption", captions),
    choose("tint", "Tint by", [["", "none"], ...measured]),
    choose("tile", "Tiles", SIZES),
  ];
}

function descending() {
  const onchange = (event) => set({ down: event.target.checked ? "1" : "" });
  const box = h("input", { type: "checkbox", name: "down", checked: Boolean(state.down), onchange });
  return h("label.check", box, "descending");
}

function search() {
  const properties = { type: "search", name: "q", value: state.q, placeholder: "euler karras …", autocomplete: "off" };
  return h("input", { ...properties, oninput: (event) => set({ q: event.target.value }) });
}

toolbar.addEventListener("submit", (event) => event.preventDefault());
