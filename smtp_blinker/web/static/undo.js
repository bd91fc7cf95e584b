// Deleting, and undoing it

import { el } from "./dom.js";
import { loadList } from "./list.js";
import { MESSAGES, ask, failed, say } from "./server.js";
import { plural } from "./words.js";

export const UNDO_SECONDS = 10;
/** What can still be undone, the latest last: the server's number, and the time when it is too late. */
let deletions = [];
let running = Promise.resolve(); // until the server has answered all deletions

/** Delete what *path* names, and offer to undo it. Raises what `ask` raises. */
export async function deleteWithUndo(path) {
  const asking = ask(`${path}${path.includes("?") ? "&" : "?"}undo=${UNDO_SECONDS}`, "DELETE");
  running = Promise.allSettled([running, asking]);
  const answer = await asking;
  deletions.push({ number: answer.undo, end: Date.now() + UNDO_SECONDS * 1000 });
  offer(`${plural(answer.deleted, "message")} deleted `);
}

/** Say *text*, with a button that undoes the latest deletion. */
function offer(text) {
  deletions = deletions.filter(({ end }) => end > Date.now());
  const latest = deletions.at(-1);
  if (latest) say(text, (latest.end - Date.now()) / 1000, el("button", { type: "button", id: "undo", onclick: undo }, "Undo (z)"));
  else say(text);
}

/** Undo the latest deletion; again, the one before it. */
export async function undo() {
  await running; // the list shows a deletion as soon as it is done, perhaps before its answer comes
  const latest = deletions.pop();
  if (!latest || latest.end <= Date.now()) return;
  try {
    const answer = await ask(`${MESSAGES}/undo/${latest.number}`, "POST");
    offer(`${plural(answer.restored, "message")} restored `);
  } catch (error) { failed(error); }
  loadList();
}
