// Strengths from votes: Bradley and Terry, Rank analysis of incomplete block designs, Biometrika 39 (1952).

import { h } from "./dom.js";

const PRIOR_SD = 2; // logits; keeps the strength of one that won or lost every vote finite

// `results`: [a place, its opponent's place, its score: 1, 0, or 0.5 for a tie]. The posterior mode under a normal
// prior, and each strength's standard deviation against their mean by Laplace's approximation, in logits.
export function bradleyTerry(count, results) {
  const strength = new Array(count).fill(0);
  let inverse = null;
  for (let iteration = 0; iteration < 100; iteration++) {
    const { gradient, hessian } = derivatives(strength, results);
    inverse = inverted(hessian);
    const move = inverse.map((row) => inner(row, gradient));
    for (const [i, by] of move.entries()) strength[i] += by;
    if (Math.max(0, ...move.map(Math.abs)) < 1e-10) break;
  }
  const common = PRIOR_SD ** 2 / Math.max(1, count); // the prior's variance of the mean, which no vote can tell
  return strength.map((value, i) => ({ value, sd: Math.sqrt(Math.max(0, inverse[i][i] - common)) }));
}

export const logistic = (x) => 1 / (1 + Math.exp(-x));
const inner = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

function derivatives(strength, results) {
  const precision = PRIOR_SD ** -2;
  const gradient = strength.map((value) => -precision * value);
  const hessian = strength.map((_, i) => strength.map((_, j) => (i === j ? precision : 0)));
  for (const [a, b, score] of results) {
    const p = logistic(strength[a] - strength[b]);
    gradient[a] += score - p;
    gradient[b] -= score - p;
    for (const [i, j, sign] of [
      [a, a, 1],
      [b, b, 1],
      [a, b, -1],
      [b, a, -1],
    ])
      hessian[i][j] += sign * p * (1 - p);
  }
  return { gradient, hessian };
}

// Gauss and Jordan without pivoting: the matrix is symmetric and positive definite
function inverted(matrix) {
  const n = matrix.length;
  const work = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let k = 0; k < n; k++) {
    const pivot = work[k][k];
    for (let j = 0; j < 2 * n; j++) work[k][j] /= pivot;
    for (let i = 0; i < n; i++) {
      const factor = work[i][k];
      if (i === k || !factor) continue;
      for (let j = 0; j < 2 * n; j++) work[i][j] -= factor * work[k][j];
    }
  }
  return work.map((row) => row.slice(n));
}

export function rankingTable(rows) {
  const names = ["", "votes", "wins against the average", "95 % interval", ""];
  const head = names.map((text) => h("th", { scope: "col" }, text));
  const about =
    `Bradley–Terry with a normal prior of ${PRIOR_SD} logits; ties count half for each. ` +
    "Where intervals overlap widely, more votes are needed.";
  const table = h("table.timings", h("thead", h("tr", head)), h("tbody", rows.map(rankingRow)));
  return h("div.wide", table, h("p.quiet", about));
}

function rankingRow({ name, votes, value, sd }) {
  const share = (x) => `${(100 * logistic(x)).toFixed(0)}%`;
  const percent = (x) => share(x).replace("%", " %");
  const [low, high] = [value - 1.96 * sd, value + 1.96 * sd];
  const style = { "--low": share(low), "--high": share(high), "--mid": share(value) };
  const shown = [votes, percent(value), `${percent(low)} to ${percent(high)}`, h("span.whisker", { style })];
  return h("tr", h("th", { scope: "row" }, name), ...shown.map((part) => h("td", part)));
}
