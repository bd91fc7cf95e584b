// Elements of the page. What comes from a message or a client is set as text, never parsed as
// markup; the content security policy's require-trusted-types-for would refuse it anyway.

export const HAS_INBOX = document.body.dataset.inbox === "yes";
export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export function shape(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** As a shape: not every system has a font with this character. */
export function paperclip() {
  const icon = shape("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" });
  icon.append(shape("path", { d: "M13.5 7.5 8 13a3.5 3.5 0 0 1-5-5l6-6a2.3 2.3 0 0 1 3.3 3.3L6.5 11A1.1 1.1 0 0 1 5 9.400l5-5" }));
  return icon;
}

// Hostile text only meets regular expressions that run in linear time.

const CLOSING = ".,;:!?)]}";
const MAX_LINKED = 1000;

/** Text with its web addresses as links, which open in a new tab without a reference to this page. */
export function linked(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']{1,2000}/g)) {
    if (nodes.length >= 2 * MAX_LINKED) break;
    let end = match[0].length;
    while (CLOSING.includes(match[0][end - 1])) end -= 1;
    const address = match[0].slice(0, end);
    nodes.push(text.slice(at, match.index), el("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, address));
    at = match.index + end;
  }
  return [...nodes, text.slice(at)];
}

export function toggle(label, pressed, change, attributes = {}) {
  return el("button", {
    type: "button", "aria-pressed": String(pressed), ...attributes,
    onclick: (event) => {
      const on = event.target.getAttribute("aria-pressed") !== "true";
      event.target.setAttribute("aria-pressed", on);
      change(on);
    },
  }, label);
}

export function emptyBox(title, text) {
  return el("div", { class: "empty" }, el("strong", {}, title), el("span", {}, text));
}

const NUMBERS = new Set(["Open for", "Messages", "Octets", "Connections", "Size", "Content", "Refusals"]);

export function table(heads, rows, none = "nothing") {
  if (!rows.length) return el("p", { class: "none" }, none);
  return el("table", { class: heads ? "fold" : null },
    heads ? el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col", class: NUMBERS.has(head) ? "num" : null }, head)))) : null,
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell, at) =>
      labelled(cell instanceof Node ? cell : el(at || heads ? "td" : "th", { class: "wrap" }, cell), heads?.[at]))))));
}

/** On a phone each cell of a row is a line of its own, with the column's heading before the value. */
function labelled(cell, head) {
  if (head) cell.dataset.head = head;
  return cell;
}

let pressed = Promise.resolve();
let letGo = () => {};
addEventListener("pointerdown", (event) => {
  letGo();
  if (event.button === 0) pressed = new Promise((resolve) => { letGo = resolve; });
}, true);
// Later than the click, which comes in the same task as the pointerup.
for (const name of ["pointerup", "pointercancel", "contextmenu"]) addEventListener(name, () => setTimeout(letGo), true);
addEventListener("blur", () => letGo()); // of the window

/** Wait while the reader presses a button of the mouse: a click on what is replaced or moved meanwhile is lost. */
export const released = () => pressed;

let show = () => {};

/** Call *route* whenever the page goes to another view. */
export function onGo(route) { show = route; }

/** Show the view of *hash* at once: the browser's hashchange comes later, perhaps after the next key. */
export function go(hash, { replace = false } = {}) {
  if (replace) location.replace(hash);
  else location.hash = hash;
  show();
}

/** Move the focus to *element*, unless the reader is about to type: then the next letter would be a key of ours. */
export function giveFocus(element, options) {
  if (!document.activeElement?.matches("input:not(.choose), select, textarea, dialog *")) element?.focus(options);
}
