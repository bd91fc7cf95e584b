// The selected messages, for actions on several at once

import { $, el } from "./dom.js";
import { inbox, state } from "./state.js";
import { plural } from "./words.js";

export const chosen = new Set();
let last; // where a selection with shift begins

/** The check box beside a message in the list. */
export function box(message) {
  return el("label", { class: "choose-box" }, el("input", {
    type: "checkbox", class: "choose", "aria-label": `Choose ${message.subject || "(no subject)"}`,
    checked: chosen.has(message.id),
    onclick: (event) => { choose(message.id, event.target.checked, event.shiftKey); },
  }));
}

function choose(id, on, through) {
  const ids = inbox.messages.map((message) => message.id);
  const [from, to] = [ids.indexOf(last), ids.indexOf(id)].sort((one, other) => one - other);
  for (const each of through && from >= 0 ? ids.slice(from, to + 1) : [id]) {
    if (on) chosen.add(each);
    else chosen.delete(each);
  }
  last = id;
  show();
}

/** Select the message that has the focus or is open, or deselect it. */
export function toggleChosen() {
  const id = focusedOrOpen();
  if (id) choose(id, !chosen.has(id), false);
}

export const focusedOrOpen = () => state.opened?.id ?? document.activeElement?.closest?.("#list li")?.querySelector("a").dataset.id;

/** For a message that is deleted. */
export const deselect = (id) => chosen.delete(id);

export function clearChosen() {
  chosen.clear();
  show();
}

/** The query that names the selected messages in a request, or else those that the search found. */
export function named() {
  if (chosen.size) return `?${new URLSearchParams([...chosen].map((id) => ["id", id]))}`;
  return inbox.query ? `?${new URLSearchParams({ q: inbox.query })}` : "";
}

export const howMany = () => plural(chosen.size || inbox.matching, "message");

/** Show what is selected. One that new mail moves to the next page stays selected, or "Delete 1" would become "Delete all" under the reader's hand. */
export function show() {
  for (const [id, row] of inbox.rows) {
    row.item.classList.toggle("chosen", chosen.has(id));
    const one = row.item.querySelector(".choose");
    if (one) one.checked = chosen.has(id);
  }
  $("tag-chosen").hidden = !chosen.size;
  $("delete-all").textContent = chosen.size ? `Delete ${chosen.size}` : inbox.query ? "Delete found" : "Delete all";
}
