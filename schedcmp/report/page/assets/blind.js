// Two images of one task without their names: which is better?

import { $, button, h, keyed } from "./dom.js";
import { plural } from "./format.js";
import { address, at, axes, byId, cells, group, isCounted, label, run, values } from "./run.js";
import { choose, state } from "./state.js";
import { whole } from "./compare.js";
import { bradleyTerry, logistic, rankingTable } from "./ranking.js";
import { CHOICES, blind, exchange, keepVotes } from "./votes.js";

const { cost } = run;
const contestant = (cell) => `${cell.at[axes.scheduler.place]},${cell.at[axes[cost].place]}`;
const contestantName = (cell) =>
  state.by ? label(cell, "scheduler") : `${label(cell, "scheduler")}, ${label(cell, cost)}`;
const competes = (cell) => isCounted(cell) && (!state.by || String(at(cell, cost).value) === state.by);

// Votes between contestants of this run at the chosen steps
function counted() {
  const pairs = blind.votes.map((vote) => [byId.get(vote.left), byId.get(vote.right), vote.choice]);
  return pairs.filter(
    ([a, b]) => a && b && a.task === b.task && competes(a) && competes(b) && contestant(a) !== contestant(b),
  );
}

// The contestant with the fewest votes against the one it has met least; chance decides the rest
function nextPair() {
  const entrants = group(cells.filter(competes), contestant);
  const votes = new Map();
  const count = (key) => votes.set(key, (votes.get(key) ?? 0) + 1);
  for (const [a, b] of counted()) [contestant(a), contestant(b), meeting(contestant(a), contestant(b))].forEach(count);
  const rank = (key) => (votes.get(key) ?? 0) + Math.random() / 2;
  for (const first of fewest([...entrants.keys()], rank)) {
    const others = [...entrants.keys()].filter((key) => key !== first);
    for (const second of fewest(others, (key) => 1000 * (votes.get(meeting(first, key)) ?? 0) + rank(key))) {
      const pair = sharedTask(entrants.get(first), entrants.get(second));
      if (pair) return Math.random() < 0.5 ? pair : pair.toReversed();
    }
  }
  return null;
}

const meeting = (a, b) => [a, b].sort().join(" | ");

function fewest(keys, rank) {
  const ranks = new Map(keys.map((key) => [key, rank(key)]));
  return keys.toSorted((a, b) => ranks.get(a) - ranks.get(b));
}

function sharedTask(first, second) {
  const byTask = new Map(second.map((cell) => [cell.task, cell]));
  const found = first.filter((cell) => byTask.has(cell.task));
  const seen = new Set(blind.votes.flatMap((v) => [`${v.left} ${v.right}`, `${v.right} ${v.left}`]));
  const unseen = found.filter((cell) => !seen.has(`${cell.id} ${byTask.get(cell.task).id}`));
  const among = unseen.length ? unseen : found;
  const cell = among[Math.floor(Math.random() * among.length)];
  return cell ? [cell, byTask.get(cell.task)] : null;
}

export function drawBlind(changed) {
  if (!blind.pair || changed.has("by")) blind.pair = nextPair();
  const view = $("view-blind");
  const open = view.querySelector("details")?.open ?? false;
  const focused = view.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const rows = ranked();
  const steps = [["", "all"], ...values(cost).map((value) => [String(value.value), value.label])];
  view.replaceChildren(
    h("h2", "Which is better?"),
    h("div.row-of", choose("by", "At", steps)),
    ...(blind.pair ? ballot(...blind.pair) : [h("p.empty", "There are no two images to compare.")]),
    h("p", { id: "told", role: "status" }, blind.told),
    h(
      "details.ranking",
      { open },
      h("summary", `Ranking from ${plural(counted().length, "vote")}`),
      rows.length ? rankingTable(rows) : h("p.quiet", "No votes yet."),
    ),
    exchange(),
  );
  fitBallot();
  view.querySelector(`[data-key="${focused}"]`)?.focus();
}

function ballot(first, second) {
  const image = (cell, side) =>
    h("img", { src: address(cell.image), alt: `${side} image`, draggable: "false", onclick: () => vote(side) });
  const keys = (text, key) => [text, h("kbd", key)];
  return [
    h("p.prompt", { dir: "auto" }, at(first, "prompt").text),
    h("div.ballot", image(first, "left"), image(second, "right")),
    h(
      "div.row-of.votes",
      button(keys("Left", "←"), () => vote("left"), { "data-key": "left" }),
      button(keys("No difference", "↓"), () => vote("tie"), { "data-key": "tie" }),
      button(keys("Right", "→"), () => vote("right"), { "data-key": "right" }),
      button(keys("Skip", "S"), skip, { "data-key": "skip" }),
      button(keys("Undo", "U"), undo, { "data-key": "undo", disabled: !blind.votes.length }),
    ),
  ];
}

// Both as large as there is room
function fitBallot() {
  const box = $("view-blind").querySelector(".ballot");
  if (!box) return;
  const side = Math.max(...blind.pair.flatMap((cell) => [cell.width, cell.height]));
  const room = Math.min((box.clientWidth - 16) / 2, innerHeight * 0.55);
  const factor = room / side;
  box.style.setProperty("--width", `${side * whole(factor)}px`);
  box.classList.toggle("crisp", factor >= 2);
}

function vote(choice) {
  if (!blind.pair) return;
  const [first, second] = blind.pair;
  blind.votes.push({ left: first.id, right: second.id, choice, at: new Date().toISOString() });
  blind.told = { left: "left is better", right: "right is better", tie: "no difference" }[choice];
  keepVotes();
  skip();
}

function skip() {
  blind.pair = nextPair();
  drawBlind(new Set());
}

function undo() {
  const last = blind.votes.pop();
  const pair = last && [byId.get(last.left), byId.get(last.right)];
  if (pair?.every(Boolean)) blind.pair = pair;
  blind.told = last ? "the last vote is taken back" : "";
  keepVotes();
  drawBlind(new Set());
}

// The contestants that have votes, best first
function ranked() {
  const votes = counted();
  const found = new Map(votes.flatMap((vote) => vote.slice(0, 2).map((cell) => [contestant(cell), cell])));
  const places = new Map([...found.keys()].map((key, i) => [key, i]));
  const place = (cell) => places.get(contestant(cell));
  const results = votes.map(([a, b, choice]) => [place(a), place(b), CHOICES[choice]]);
  const strengths = places.size ? bradleyTerry(places.size, results) : [];
  const rows = [...found].map(([key, cell]) => ({
    name: contestantName(cell),
    scheduler: at(cell, "scheduler").value,
    cost: at(cell, cost).value,
    votes: results.filter((r) => r[0] === places.get(key) || r[1] === places.get(key)).length,
    ...strengths[places.get(key)],
  }));
  return rows.sort((a, b) => b.value - a.value);
}

// For other programs; strengths are logits against the mean of those ranked
export const exportedRanking = () =>
  ranked().map((row) => ({
    scheduler: row.scheduler,
    [cost]: row.cost,
    votes: row.votes,
    strength: row.value,
    strength_sd: row.sd,
    wins_against_average: logistic(row.value),
  }));

const BLIND_KEYS = {
  ArrowLeft: () => vote("left"),
  ArrowRight: () => vote("right"),
  ArrowDown: () => vote("tie"),
  s: skip,
  u: undo,
};

const isElsewhere = (event) =>
  state.view !== "blind" || document.querySelector("dialog[open]") || event.target.closest("input, select, [role=tab]");
document.addEventListener("keydown", keyed(BLIND_KEYS, isElsewhere));
