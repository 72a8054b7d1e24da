// What the run found, on what, and what to know before trusting it.

import { $, button, copy, h, keyValues } from "./dom.js";
import { plural } from "./format.js";
import { STATUSES, cells, describe, hasStatus, mark, run, values, varies } from "./run.js";
import { set } from "./state.js";
import { openCell } from "./lightbox.js";

export function drawOverview() {
  $("view-run").replaceChildren(
    ...answer(),
    ...elsewhere(),
    h("h2", {}, "Cells"),
    statusLine(),
    ...troubled(),
    ...(run.warnings.length
      ? [
          h("h2", {}, "Warnings"),
          h(
            "ul",
            { class: "list" },
            run.warnings.map((text) => h("li", { dir: "auto" }, text)),
          ),
        ]
      : []),
    h("h2", {}, "Environment"),
    keyValues(flat(run.environment)),
    h("h2", {}, "Sweep"),
    h("pre", { tabindex: 0, dir: "auto" }, run.sweep),
  );
}

function statusLine() {
  const counts = Object.entries(STATUSES).map(([status, text]) => [
    text,
    cells.filter((c) => hasStatus(c, status)).length,
  ]);
  const unmade = run.planned - cells.length;
  const told = [
    ...counts.filter(([, n]) => n).map(([text, n]) => `${n.toLocaleString("en")} ${text}`),
    ...(unmade > 0 ? [`${unmade.toLocaleString("en")} not made yet`] : []),
  ];
  return h("p", {}, told.join(" · ") || "none yet");
}

const MOST_TROUBLED = 200;

function troubled() {
  const found = cells.filter((cell) => cell.status !== "ok" || cell.inert);
  if (!found.length) return [];
  const item = (cell) =>
    h(
      "li",
      { dir: "auto" },
      button(describe(cell), () => openCell(cell.id), { class: "link" }),
      ` ${mark(cell) ?? `${cell.status}: ${cell.reason}`}`,
    );
  const more =
    found.length > MOST_TROUBLED
      ? h("li", {}, `and ${found.length - MOST_TROUBLED} more: filter the images by status`)
      : null;
  return [h("ul", { class: "list" }, found.slice(0, MOST_TROUBLED).map(item), more)];
}

const bare = (text) => text.replaceAll(/\*\*|`/g, "");

// The little Markdown that answer.md has: headings, lists, tables, paragraphs; emphasis and code as plain text
function answer() {
  const parts = [];
  for (const line of run.answer
    .split("\n")
    .map((text) => text.trim())
    .filter(Boolean)) {
    const plain = bare(line.replace(/^(#+|[-*])\s+/, ""));
    if (line.startsWith("#")) parts.push(h("h2", {}, plain));
    else if (line.startsWith("|")) addTableRow(parts, line);
    else if (/^[-*]\s/.test(line)) listOf(parts).append(h("li", { dir: "auto" }, plain));
    else parts.push(h("p", { class: "finding", dir: "auto" }, plain));
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
  const copier = ([form, text]) => {
    const press = async (event) => {
      await copy(text, event.currentTarget ?? told);
      told.textContent = `copied: ${PROGRAMS[form]}`;
    };
    return button(PROGRAMS[form] ?? form, press, { "data-paste": form });
  };
  return [
    h("h2", {}, "Take it elsewhere"),
    h(
      "p",
      { class: "quiet", dir: "auto" },
      `${run.pastes.what}, for other programs. An opened image has its own diffusers program.`,
    ),
    h("div", { class: "row-of" }, ...texts.map(copier), told),
  ];
}

function listOf(parts) {
  if (parts.at(-1)?.tagName !== "UL") parts.push(h("ul", { class: "list" }));
  return parts.at(-1);
}

function addTableRow(parts, line) {
  const texts = line
    .split("|")
    .slice(1, -1)
    .map((text) => text.trim());
  if (texts.every((text) => /^:?-+:?$/.test(text))) return;
  const isHead = !parts.at(-1)?.matches(".wide");
  if (isHead) parts.push(h("div", { class: "wide" }, h("table", { class: "timings" })));
  const words = (text) => (text.startsWith("**") ? h("strong", {}, bare(text)) : bare(text));
  const cell = (text, i) =>
    isHead
      ? h("th", { scope: "col" }, words(text))
      : i
        ? h("td", {}, words(text))
        : h("th", { scope: "row" }, words(text));
  parts.at(-1).firstChild.append(h("tr", {}, texts.map(cell)));
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
    if (inner === null || inner === "") return [];
    return typeof inner === "object" && !Array.isArray(inner)
      ? flat(inner, name)
      : [[name, Array.isArray(inner) ? inner.join(", ") : String(inner)]];
  });
}

export function drawFacts() {
  const count = (axis, word) => (varies(axis) ? [plural(values(axis).length, word)] : []);
  const device = [run.environment.checkpoint, run.environment.device, run.environment.dtype].filter(
    (v) => typeof v === "string",
  );
  const made =
    run.planned > cells.length
      ? `${cells.length.toLocaleString("en")} of ${plural(run.planned, "cell")}`
      : plural(cells.length, "cell");
  $("facts").textContent = [
    made,
    ...count("scheduler", "scheduler"),
    ...count("seed", "seed"),
    ...count("prompt", "prompt"),
    ...device,
  ].join(" · ");
}
