// The votes of blind comparisons: kept in this browser, taken elsewhere as a file.

import { button, download, h, recall, remember } from "./dom.js";
import { plural } from "./format.js";
import { run } from "./run.js";
import { state } from "./state.js";
import { drawBlind, exportedRanking } from "./blind.js";

export const CHOICES = { left: 1, tie: 0.5, right: 0 }; // the left one's score
const VOTES = `schedcmp-votes-${run.id}`;
export const blind = { votes: recall(VOTES, []).filter(isVote), pair: null, told: "" };

function isVote(vote) {
  const known = vote && typeof vote === "object" && Object.hasOwn(CHOICES, vote.choice);
  return known && typeof vote.left === "string" && typeof vote.right === "string" && vote.left !== vote.right;
}

export function keepVotes() {
  if (!remember(VOTES, blind.votes)) blind.told += "; this browser does not keep votes: export them";
}

export function exchange() {
  const onchange = async () => file.files[0] && importVotes(await file.files[0].text());
  const properties = { type: "file", accept: ".json,application/json", id: "votes-file", tabindex: -1, onchange };
  const file = h("input.visually-hidden", properties);
  const save = () => {
    const about = { schedcmp_votes: 1, run: run.id, name: run.name, at: state.by || "all" };
    const text = JSON.stringify({ ...about, ranking: exportedRanking(), votes: blind.votes }, null, 1);
    download(`votes-${run.id}.json`, text);
  };
  const open = button("Import votes", () => file.click());
  return h("p.row-of", button("Export votes and ranking", save), open, file);
}

function importVotes(text) {
  let read = [];
  try {
    read = JSON.parse(text).votes.filter(isVote);
  } catch {
    blind.told = "that file holds no votes of this page's kind";
    return drawBlind(new Set());
  }
  const known = new Set(blind.votes.map((v) => JSON.stringify([v.left, v.right, v.choice, v.at])));
  const fresh = read.filter((v) => !known.has(JSON.stringify([v.left, v.right, v.choice, v.at])));
  blind.votes.push(...fresh);
  blind.told = `${plural(fresh.length, "vote")} added`;
  keepVotes();
  return drawBlind(new Set());
}
