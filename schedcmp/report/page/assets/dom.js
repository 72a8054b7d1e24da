// Elements from data. Text only ever becomes text: nothing here parses HTML.

export const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

const isNothing = (value) => value === null || value === undefined || value === false;

// "p.quiet" is a paragraph of that class; properties may be left out
function build(create, name, parts) {
  const [tag, ...classes] = name.split(".");
  const [properties, ...children] = parts[0]?.constructor === Object ? parts : [{}, ...parts];
  const element = create(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(properties)) {
    if (isNothing(value)) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => !isNothing(child)));
  return element;
}

export const h = (name, ...parts) => build((tag) => document.createElement(tag), name, parts);
export const svg = (name, ...parts) => build((tag) => document.createElementNS(SVG, tag), name, parts);

export const field = (label, control) => h("label.field", h("span", label), control);
export const button = (label, onclick, properties = {}) =>
  h("button", { type: "button", onclick, ...properties }, label);

export function select(label, options, chosen, onchange, properties = {}) {
  const shown = options.map(([value, text]) => h("option", { value, selected: value === chosen }, text));
  return field(label, h("select", { onchange: (event) => onchange(event.target.value), ...properties }, shown));
}

// The small picture of an axis's value that is an image, if it has one
export const pictureOf = ({ picture }) => (picture ? h("img.given", { src: picture, alt: "" }) : null);

export function keyValues(pairs) {
  const shown = pairs.filter(([, value]) => !isNothing(value) && value !== "");
  const parts = shown.flatMap(([key, value]) => [h("dt", key), h("dd", { dir: "auto" }, value)]);
  return h("dl.pairs", parts);
}

// Listens for the keys of a table, but for those that mean something else
export const keyed = (keys, isElsewhere) => (event) => {
  const act = Object.hasOwn(keys, event.key) && keys[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey || isElsewhere?.(event)) return;
  event.preventDefault();
  act();
};

// A button that copies a text and says so
export function copier(name, text, told, what, properties) {
  const press = async (event) => {
    await copy(text, event.currentTarget ?? told);
    told.textContent = what;
  };
  return button(name, press, properties);
}

async function copy(text, near) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea.visually-hidden", text);
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
