// Copying to the clipboard

import { el, shape } from "./dom.js";
import { say } from "./server.js";

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyFromField(text); // browsers have no clipboard object on a plain-HTTP page of another machine
  }
}

function copyFromField(text) {
  const focused = document.activeElement;
  const field = el("textarea", { class: "copied", "aria-hidden": "true", tabindex: "-1" });
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  focused?.focus({ preventScroll: true });
  return done;
}

const SHEETS = "M5.5 5.5h8v8h-8zM3 10.5H2.500v-8h8V3";

/** A button that copies *text*, or what that function returns; *what* is its name for screen readers. */
export function copyButton(text, what, label) {
  const icon = shape("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" });
  icon.append(shape("path", { d: SHEETS }));
  return el("button", {
    type: "button", class: label ? "copy" : "copy bare", "aria-label": label ? null : `Copy ${what}`, title: `Copy ${what}`,
    onclick: async () => say(await copy(typeof text === "function" ? text() : text) ? `Copied ${what}` : "The browser doesn’t allow it."),
  }, icon, label);
}
