// Elements from data. Text only ever becomes text: nothing here parses HTML.

export const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (tag, properties = {}, ...children) => fill(document.createElement(tag), properties, children);
export const svg = (tag, properties = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), properties, children);

const option = (value, label, chosen) => h("option", { value, selected: value === chosen }, label);
export const field = (label, control) => h("label", { class: "field" }, h("span", {}, label), control);
export const button = (label, onclick, properties = {}) =>
  h("button", { type: "button", onclick, ...properties }, label);

export function select(label, options, chosen, onchange, properties = {}) {
  const change = (event) => onchange(event.target.value);
  const control = h(
    "select",
    { onchange: change, ...properties },
    options.map(([v, l]) => option(v, l, chosen)),
  );
  return field(label, control);
}

// The small picture of an axis's value that is an image, if it has one
export const pictureOf = ({ picture }) => (picture ? h("img", { class: "given", src: picture, alt: "" }) : null);

export function keyValues(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h(
    "dl",
    { class: "pairs" },
    shown.flatMap(([key, value]) => [h("dt", {}, key), h("dd", { dir: "auto" }, value)]),
  );
}

export async function copy(text, near) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "visually-hidden" }, text);
    near.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    near.focus();
  }
}

export function download(name, text) {
  const address = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

// localStorage may be forbidden, full or somebody else's text
export function remember(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function recall(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
}
