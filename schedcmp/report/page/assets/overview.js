// What the run found, on what, and what to know before trusting it.

import { $, button, copier, h, keyValues } from "./dom.js";
import { plural } from "./format.js";
import { STATUSES, cells, describe, hasStatus, mark, run, values, varies } from "./run.js";
import { set } from "./state.js";
import { openCell } from "./lightbox.js";

export function drawOverview() {
  $("view-run").replaceChildren(
    ...answer(),
    ...elsewhere(),
    h("h2", "Cells"),
    statusLine(),
    ...troubled(),
    ...warnings(),
    h("h2", "Environment"),
    keyValues(flat(run.environment)),
    h("h2", "Sweep"),
    h("pre", { tabindex: 0, dir: "auto" }, run.sweep),
  );
}

function warnings() {
  const items = run.warnings.map((text) => item(text));
  return items.length ? [h("h2", "Warnings"), h("ul.list", items)] : [];
}

const item = (...parts) => h("li", { dir: "auto" }, parts);

function statusLine() {
  const count = (status) => cells.filter((cell) => hasStatus(cell, status)).length;
  const counts = Object.entries(STATUSES).map(([status, text]) => [count(status), text]);
  const told = [...counts, [run.planned - cells.length, "not made yet"]].filter(([n]) => n > 0);
  return h("p", told.map(([n, text]) => `${n.toLocaleString("en")} ${text}`).join(" · ") || "none yet");
}

const MOST_TROUBLED = 200;

function troubled() {
  const found = cells.filter((cell) => cell.status !== "ok" || cell.inert);
  if (!found.length) return [];
  const link = (cell) => button(describe(cell), () => openCell(cell.id), { class: "link" });
  const told = (cell) => item(link(cell), ` ${mark(cell) ?? `${cell.status}: ${cell.reason}`}`);
  const more = found.length - MOST_TROUBLED;
  const rest = more > 0 && h("li", `and ${more} more: filter the images by status`);
  return [h("ul.list", found.slice(0, MOST_TROUBLED).map(told), rest)];
}

const bare = (text) => text.replaceAll(/\*\*|`/g, "");

// The little Markdown that answer.md has: headings, lists, tables, paragraphs; emphasis and code as plain text
function answer() {
  const parts = [];
  for (const line of run.answer.match(/\S(.*\S)?/g) ?? []) {
    const plain = bare(line.replace(/^(#+|[-*])\s+/, ""));
    if (line.startsWith("#")) parts.push(h("h2", plain));
    else if (line.startsWith("|")) addTableRow(parts, line);
    else if (/^[-*]\s/.test(line)) listOf(parts).append(item(plain));
    else parts.push(h("p.finding", { dir: "auto" }, plain));
  }
  return parts;
}

const PROGRAMS = {
  diffusers: "a diffusers program",
  a1111: "A1111's infotext",
  comfyui: "ComfyUI's KSampler",
  "comfyui-workflow": "ComfyUI's workflow",
  invokeai: "InvokeAI's settings",
};

// What is recommended, to be pasted into other programs
function elsewhere() {
  const texts = Object.entries(run.pastes?.texts ?? {});
  if (!texts.length) return [];
  const told = h("span", { role: "status" });
  const copiers = texts.map(([form, text]) =>
    copier(PROGRAMS[form], text, told, `copied: ${PROGRAMS[form]}`, { "data-paste": form }),
  );
  const about = `${run.pastes.what}, for other programs. An opened image has its own diffusers program.`;
  return [h("h2", "Take it elsewhere"), h("p.quiet", { dir: "auto" }, about), h("div.row-of", copiers, told)];
}

function listOf(parts) {
  if (parts.at(-1)?.tagName !== "UL") parts.push(h("ul.list"));
  return parts.at(-1);
}

function addTableRow(parts, line) {
  const texts = line.split(/\s*\|\s*/).slice(1, -1);
  if (texts.every((text) => /^:?-+:?$/.test(text))) return;
  const isHead = !parts.at(-1)?.matches(".wide");
  if (isHead) parts.push(h("div.wide", h("table.timings")));
  const words = (text) => (text.startsWith("**") ? h("strong", bare(text)) : bare(text));
  const kind = (i) => (isHead ? ["th", { scope: "col" }] : i ? ["td"] : ["th", { scope: "row" }]);
  const cell = (text, i) => h(...kind(i), words(text));
  parts.at(-1).firstChild.append(h("tr", texts.map(cell)));
}

// The first finding, with the setting that it holds for
function finding() {
  let setting = "";
  for (const line of run.answer.split("\n")) {
    if (line.startsWith("## ")) setting = `${line.slice(3)}: `;
    if (/^[-*]\s/.test(line)) return setting + bare(line.slice(2));
  }
  return "";
}

export function drawFinding() {
  const text = finding();
  const more = () => set({ view: "run" });
  $("finding").replaceChildren(text ? button(text, more, { class: "plain", title: "All findings" }) : "");
}

function flat(value, prefix = "") {
  return Object.entries(value).flatMap(([key, inner]) => {
    const name = prefix ? `${prefix} ${key}` : key.replaceAll("_", " ");
    if (Array.isArray(inner)) return [[name, inner.join(", ")]];
    if (inner === null || inner === "") return [];
    return typeof inner === "object" ? flat(inner, name) : [[name, String(inner)]];
  });
}

export function drawFacts() {
  const { checkpoint, device, dtype } = run.environment;
  const of = run.planned > cells.length ? `${cells.length.toLocaleString("en")} of ` : "";
  $("facts").textContent = [
    of + plural(of ? run.planned : cells.length, "cell"),
    ...["scheduler", "seed", "prompt"].filter(varies).map((axis) => plural(values(axis).length, axis)),
    ...[checkpoint, device, dtype].filter((text) => typeof text === "string"),
  ].join(" · ");
}
