// The messages that the reader has chosen, for what is done with several at once

import { $, el } from "./dom.js";
import { inbox, state } from "./state.js";
import { plural } from "./words.js";

export const chosen = new Set();
let last; // where a choice with shift begins

/** The box beside a message of the list. */
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

/** Choose the message that has the focus or is open, or no longer. */
export function toggleChosen() {
  const id = focusedOrOpen();
  if (id) choose(id, !chosen.has(id), false);
}

export const focusedOrOpen = () => state.opened?.id ?? document.activeElement?.closest?.("#list li")?.querySelector("a").dataset.id;

export function clearChosen() {
  chosen.clear();
  show();
}

/** What names the chosen messages in a request, or else those that were searched for. */
export function named() {
  if (chosen.size) return `?${new URLSearchParams([...chosen].map((id) => ["id", id]))}`;
  return inbox.query ? `?${new URLSearchParams({ q: inbox.query })}` : "";
}

export const howMany = () => plural(chosen.size || inbox.matching, "message");

/** Show what is chosen; of a page that was left nothing is. */
export function show() {
  for (const id of [...chosen]) if (!inbox.rows.has(id)) chosen.delete(id);
  for (const [id, row] of inbox.rows) {
    row.item.classList.toggle("chosen", chosen.has(id));
    const one = row.item.querySelector(".choose");
    if (one) one.checked = chosen.has(id);
  }
  $("tag-chosen").hidden = !chosen.size;
  $("delete-all").textContent = chosen.size ? `Delete ${chosen.size}` : inbox.query ? "Delete found" : "Delete all";
}
