// Cost against quality: a point per scheduler and number of steps, a line per scheduler.

import { $, h, keyed, svg } from "./dom.js";
import { digits, isNumber, plural, seconds } from "./format.js";
import { SETTING, address, at, axes, cells, group, label, measures, run, smallImage, varies } from "./run.js";
import { choose, state } from "./state.js";
import { chosen } from "./layout.js";
import { least, most } from "./tiles.js";
import { openCell } from "./lightbox.js";
import { selector } from "./toolbar.js";

// Okabe and Ito's colours, which most people can tell apart; blacks and yellows are left to the text and the paper
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"];
const DASHES = ["none", "7 3", "2 3"]; // where there are more lines than colours
const WIDE = { width: 860, height: 480, left: 62, right: 150, top: 16, bottom: 46, mostTicks: 10 };
const NARROW = { width: 370, height: 400, left: 40, right: 130, top: 34, bottom: 46, mostTicks: 5 };
const MOST_LETTERS = 17; // of a name beside a narrow plot
const PHONE = "(max-width: 40rem)"; // as in small.css
let PLOT = WIDE;

export function drawPlots() {
  const named = [...measures].map(([name, measure]) => [name, measure.label]);
  const settings = SETTING.filter(varies).map(selector);
  const about =
    "A point is a scheduler at one number of steps: the answer's mean with its 95 % interval where it has one, else " +
    "the median of its images. Choose one to see an image. Where nothing as cheap is better, it has a ring.";
  $("view-plots").replaceChildren(
    h("h2", "Cost and quality"),
    h("div.row-of", choose("x", "Across", named), choose("y", "Up", named), settings),
    scatter(),
    h("p.quiet", about),
    ...run.plots.map(savedPlot),
  );
}

function savedPlot(name) {
  const title = name.replace(/\.svg$/, "").replaceAll(/[-_]/g, " ");
  const src = address(`plots/${name}`);
  const link = h("a", { href: src, target: "_blank" }, h("img", { src, alt: title, loading: "lazy" }));
  return h("figure.plot", link, h("figcaption", title));
}

function scatter() {
  PLOT = matchMedia(PHONE).matches ? NARROW : WIDE;
  const curves = series();
  const points = curves.flatMap((line) => line.points);
  if (!points.length) return h("p.empty", "No image has both numbers.");
  const [across, up] = [measures.get(state.x), measures.get(state.y)];
  const xs = points.map((p) => p.x);
  const ys = points.flatMap((p) => [p.y, ...(p.ends ?? [])]).filter(isNumber);
  const x = scale(xs, PLOT.left, PLOT.width - PLOT.right, across.near);
  const y = scale(ys, PLOT.height - PLOT.bottom, PLOT.top, up.near);
  for (const p of points) {
    const [low, high] = (p.ends ?? []).map((end) => (isNumber(end) ? y.place(end) : null));
    Object.assign(p, { left: x.place(p.x), top: y.place(p.y), low, high });
  }
  const viewBox = `0 0 ${PLOT.width} ${PLOT.height}`;
  const name = `${up.label} against ${across.label}`;
  const drawn = curves.map((line, i) => drawSeries(line, style(i, curves.length)));
  const parts = [...frame(x, y), frontLine(points.filter((p) => p.isBest)), ...drawn, ...names(curves)];
  const chart = svg("svg.scatter", { viewBox, role: "group", "aria-label": name }, parts);
  return h("div.chart", chart, h("div.hover", { id: "hover", hidden: true }));
}

function style(i, count) {
  if (count > COLOURS.length * DASHES.length) return {};
  return { "--line": COLOURS[i % COLOURS.length], "--dash": DASHES[Math.floor(i / COLOURS.length)] };
}

// Stairs: what each cost gets at best
function frontLine(points) {
  const ordered = points.toSorted((a, b) => a.left - b.left);
  const d = ordered.map((p, i) => (i ? `H${p.left}V${p.top}` : `M${p.left} ${p.top}`)).join("");
  return svg("path.front", { d });
}

function series() {
  const shown = run.points.filter((point) => SETTING.every((axis) => isChosen(cells[point.cell], axis)));
  const drawn = shown.map(drawnPoint).filter((p) => isNumber(p.x) && isNumber(p.y));
  const same = ({ cell }) => ["scheduler", ...SETTING].map((axis) => cell.at[axes[axis].place]).join();
  return [...group(drawn, same).values()].map((points) => ({
    name: seriesName(points[0].cell),
    points: points.sort((a, b) => a.steps - b.steps),
  }));
}

function drawnPoint({ cell: place, count, values: of, ends, front }) {
  const cell = cells[place];
  const pairs = [`${state.x} ${state.y}`, `${state.y} ${state.x}`];
  return {
    cell,
    count,
    steps: at(cell, "steps").value,
    x: of[state.x],
    y: of[state.y],
    ends: ends[state.y],
    isBest: pairs.some((pair) => front.includes(pair)),
  };
}

const isChosen = (cell, axis) => chosen(axis) < 0 || cell.at[axes[axis].place] === chosen(axis);

function seriesName(cell) {
  return ["scheduler", ...SETTING]
    .filter((axis) => axis === "scheduler" || (varies(axis) && chosen(axis) < 0))
    .map((axis) => label(cell, axis))
    .join(", ");
}

// Value → px, with its ticks; by logarithm where all is positive and spans more than a factor of eight. What chance may
// make negative is drawn evenly as far as it is `near` enough to nothing, and by logarithm beyond
function scale(found, start, end, near) {
  const [low, high] = [least(found), most(found)];
  const log = !near && low > 0 && high / low > 8;
  const f = near ? (v) => Math.asinh(v / near) : log ? Math.log : (v) => v;
  const padding = near ? padded(f(low), f(high)).map((v) => near * Math.sinh(v)) : padded(low, high);
  const [from, to] = log ? [low / 1.15, high * 1.15] : padding;
  const place = (v) => start + ((f(v) - f(from)) / (f(to) - f(from))) * (end - start);
  const beyond = () => [...(from <= 0 ? [0] : []), ...logTicks(Math.max(near, from), to)];
  if (near && high > 5 * near) return { place, ticks: beyond() };
  return { place, ticks: log ? logTicks(from, to) : evenTicks(from, to) };
}

function padded(low, high) {
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  return [low >= 0 ? Math.max(0, low - pad) : low - pad, high + pad];
}

function logTicks(from, to) {
  const decades = Array.from({ length: 40 }, (_, i) => 10 ** (i - 20));
  const all = decades.flatMap((decade) => [decade, 2 * decade, 5 * decade]).filter((v) => v >= from && v <= to);
  return all.length > PLOT.mostTicks ? decades.filter((v) => v >= from && v <= to) : all;
}

function evenTicks(from, to) {
  const rough = (to - from) / 5;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= rough);
  const first = Math.ceil(from / size);
  return Array.from({ length: Math.floor(to / size) - first + 1 }, (_, i) =>
    Number(((first + i) * size).toPrecision(12)),
  );
}

function frame(x, y) {
  const [bottom, right] = [PLOT.height - PLOT.bottom, PLOT.width - PLOT.right];
  const text = (name, v) => (name === "latency" ? seconds(v) : digits(v));
  const rule = (x1, y1, x2, y2) => svg("line.rule", { x1, y1, x2, y2 });
  return [
    ...y.ticks.map((v) => rule(PLOT.left, y.place(v), right, y.place(v))),
    ...y.ticks.map((v) =>
      svg("text.tick", { x: PLOT.left - 8, y: y.place(v) + 4, "text-anchor": "end" }, text(state.y, v)),
    ),
    ...x.ticks.map((v) =>
      svg("text.tick", { x: x.place(v), y: bottom + 18, "text-anchor": "middle" }, text(state.x, v)),
    ),
    rule(PLOT.left, bottom, right, bottom),
    svg("text.axis", { x: (PLOT.left + right) / 2, y: PLOT.height - 6, "text-anchor": "middle" }, directed(state.x)),
    ...upper(state.y),
  ];
}

function directed(name) {
  const { label: text } = measures.get(name);
  return better(name) ? `${text}: ${better(name)}` : text;
}

function better(name) {
  const { higher } = measures.get(name);
  return higher === null ? "" : `${higher ? "more" : "less"} is better`;
}

// Above the vertical axis; in two lines where one has no room
function upper(name) {
  const lines = PLOT === NARROW ? [measures.get(name).label, better(name)] : [directed(name)];
  const x = PLOT === NARROW ? 0 : PLOT.left;
  return lines.map((text, i) => svg("text.axis", { x, y: PLOT.top - 4 - 15 * (lines.length - 1 - i) }, text));
}

function drawSeries(line, style) {
  const d = line.points.map((p, i) => `${i ? "L" : "M"}${p.left} ${p.top}`).join("");
  const markers = line.points.map((point) => marker(line, point));
  return svg("g.series", { style }, svg("path.trace", { d }), markers);
}

function marker(line, point) {
  const { left, top, low, high } = point;
  const show = () => hover(line, point);
  const open = () => openCell(point.cell.id);
  const text = `${line.name}, ${plural(point.steps, "step")}: ${numbersOf(point).join(", ")}`;
  const circle = (name, r) => svg(`circle.${name}`, { cx: left, cy: top, r });
  const shown = { onfocus: show, onpointerenter: show, onblur: unhover, onpointerleave: unhover };
  const pressed = { onclick: open, onkeydown: keyed({ Enter: open, " ": open }) };
  return svg(
    "g.point",
    { tabindex: 0, role: "button", "aria-label": text, ...shown, ...pressed },
    circle("hit", 12),
    isNumber(low) && svg("line.ends", { x1: left, x2: left, y1: low, y2: high }),
    point.isBest && circle("ring", 8),
    circle("dot", 4.5),
  );
}

function numbersOf(point) {
  const [across, up] = [measures.get(state.x), measures.get(state.y)];
  const ends = point.ends?.every(isNumber) ? ` [${point.ends.map((end) => up.text(end)).join(", ")}]` : "";
  return [across.text(point.x), up.text(point.y) + ends];
}

function hover(line, point) {
  const box = $("hover");
  box.hidden = false;
  box.style.left = `${(100 * point.left) / PLOT.width}%`;
  box.style.top = `${(100 * point.top) / PLOT.height}%`;
  box.classList.toggle("flip", point.left > PLOT.width / 2);
  box.classList.toggle("up", point.top > PLOT.height / 2);
  const facts = [plural(point.steps, "step"), numbersOf(point).join(" · "), plural(point.count, "image")];
  const image = h("img", { src: smallImage(point.cell), alt: "" });
  box.replaceChildren(image, h("strong", line.name), ...facts.map((text) => h("span", text)));
}

function unhover() {
  if ($("hover")) $("hover").hidden = true;
}

// Each line's name beside its last point, pushed apart; with very many lines only on hover
function names(curves) {
  if (curves.length > 30) return [];
  const ends = curves.map((line, i) => ({ name: line.name, i, ...line.points.at(-1) }));
  const placed = ends.toSorted((a, b) => a.top - b.top);
  const [top, bottom] = [PLOT.top, PLOT.height - PLOT.bottom];
  const wanted = placed.map((n) => n.top);
  const heights = spread(wanted, Math.min(15, (bottom - top) / placed.length));
  const over = Math.max(0, heights.at(-1) - bottom) || Math.min(0, heights[0] - top);
  const right = PLOT.width - PLOT.right + 14;
  return placed.map((n, i) => {
    const height = heights[i] - over;
    const name = svg("text.name", { x: right, y: height + 4 }, fittingName(n.name));
    const lead = svg("path.lead", { d: `M${n.left + 7} ${n.top}L${right - 4} ${height}` });
    return svg("g", { style: style(n.i, curves.length) }, lead, name);
  });
}

const fittingName = (name) =>
  PLOT === NARROW && name.length > MOST_LETTERS ? `${name.slice(0, MOST_LETTERS - 1)}…` : name;

// Ascending heights at least `gap` apart, as near to the wanted ones as can be (least squares: pooled neighbours)
function spread(wanted, gap) {
  const blocks = [];
  wanted.forEach((height, i) => {
    blocks.push({ sum: height - i * gap, count: 1 });
    while (blocks.length > 1 && mean(blocks.at(-2)) > mean(blocks.at(-1))) {
      const last = blocks.pop();
      blocks.at(-1).sum += last.sum;
      blocks.at(-1).count += last.count;
    }
  });
  return blocks.flatMap((block) => new Array(block.count).fill(mean(block))).map((height, i) => height + i * gap);
}

const mean = ({ sum, count }) => sum / count;
