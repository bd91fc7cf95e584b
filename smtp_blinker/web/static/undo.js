// Deleting, and undoing it

import { el } from "./dom.js";
import { loadList } from "./list.js";
import { MESSAGES, ask, failed, say } from "./server.js";
import { plural } from "./words.js";

export const UNDO_SECONDS = 10;
let latest = null;
let timer;

/** Delete what *path* names, and offer to undo it. Raises what `ask` raises. */
export async function deleteWithUndo(path) {
  const answer = await ask(`${path}${path.includes("?") ? "&" : "?"}undo=${UNDO_SECONDS}`, "DELETE");
  latest = answer.undo;
  clearTimeout(timer);
  timer = setTimeout(() => { latest = null; }, UNDO_SECONDS * 1000);
  say(`${plural(answer.deleted, "message")} deleted `, UNDO_SECONDS, el("button", { type: "button", id: "undo", onclick: undo }, "Undo (z)"));
}

export async function undo() {
  if (latest === null) return;
  const number = latest;
  latest = null;
  try {
    const answer = await ask(`${MESSAGES}/undo/${number}`, "POST");
    say(`${plural(answer.restored, "message")} restored`);
  } catch (error) { failed(error); }
  loadList();
}
