// The choices above the grid.

import { $, field, h, select } from "./dom.js";
import { BASE, STATUSES, axes, cells, hasStatus, measures, metrics, values, varies } from "./run.js";
import { DEFAULTS, choose, set, state } from "./state.js";
import { chosen, isGallery, resolved, selectors } from "./layout.js";

const toolbar = $("toolbar");

export function drawToolbar() {
  const focused = toolbar.contains(document.activeElement) ? document.activeElement.name : null;
  toolbar.replaceChildren(
    h(
      "div",
      { class: "row-of" },
      axisChoice("rows", "Rows"),
      axisChoice("cols", "Columns"),
      ...selectors().map(selector),
    ),
    h(
      "details",
      { class: "more-tools", open: moreOpen() },
      h("summary", {}, "Sort, filter, show"),
      h("div", { class: "row-of" }, ...tools()),
    ),
  );
  if (focused) toolbar.elements[focused]?.focus();
}

const moreOpen = () => toolbar.querySelector("details")?.open ?? !matchMedia("(max-width: 40rem)").matches;

function axisChoice(key, name) {
  const other = key === "rows" ? "cols" : "rows";
  const names = Object.keys(axes).filter((axis) => axis !== BASE);
  const usable = names.filter((axis) => varies(axis) || axis === state[key] || axis === DEFAULTS[key]);
  const swap = (value) => ({ [key]: value, ...(value && state[other] === value ? { [other]: state[key] } : {}) });
  return select(
    name,
    [...usable.map((axis) => [axis, axes[axis].title]), ["", "none"]],
    state[key],
    (value) => set(swap(value)),
    { name: key },
  );
}

export function selector(axis) {
  const all = isGallery() ? [["*", "all"]] : [];
  const found = values(resolved(axis)).map((value) => [
    String(value.value),
    value.text === null ? String(value.value) || "none" : shortened(value),
  ]);
  const value = chosen(axis) < 0 ? "*" : String(values(resolved(axis))[chosen(axis)].value);
  return select(axes[axis].title, [...all, ...found], value, (v) => set({ [`at.${axis}`]: v === "*" ? null : v }), {
    name: `at.${axis}`,
  });
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
  const box = h("input", { type: "checkbox", name: "down", checked: Boolean(state.down) });
  box.addEventListener("change", () => set({ down: box.checked ? "1" : "" }));
  return h("label", { class: "check" }, box, "descending");
}

function search() {
  const properties = { type: "search", name: "q", value: state.q, placeholder: "euler karras …", autocomplete: "off" };
  const input = h("input", properties);
  input.addEventListener("input", () => set({ q: input.value }));
  return input;
}

toolbar.addEventListener("submit", (event) => event.preventDefault());
