// Tags: those that a message comes with, and those that people add

import { $, el, go } from "./dom.js";
import { loadList, search } from "./list.js";
import { chosen, focusedOrOpen, named } from "./selection.js";
import { MESSAGES, ask, failed, messagePath } from "./server.js";
import { state } from "./state.js";

/** Ask for a tag, and add it to the selected messages, or to the open one. */
export function askForTag() {
  const id = focusedOrOpen();
  if (!chosen.size && !id) return;
  const those = chosen.size ? named() : null; // new mail may change what is selected
  const paths = (tag) => (those ? `${MESSAGES}/tags/${encodeURIComponent(tag)}${those}` : messagePath(id, `/tags/${encodeURIComponent(tag)}`));
  const done = async (method) => {
    const tag = $("tag-name").value.trim();
    if (!tag) return;
    $("tagging").close();
    await change(paths(tag), method);
  };
  $("tag-add").onclick = () => done("PUT");
  $("tag-remove").onclick = () => done("DELETE");
  $("tag-name").onkeydown = (event) => { if (event.key === "Enter") { event.preventDefault(); done("PUT"); } };
  $("tag-name").value = "";
  $("tagging").showModal();
  $("tag-name").focus();
}

async function change(path, method) {
  try { await ask(path, method); } catch (error) { failed(error); return; }
  await loadList();
  const opened = state.opened;
  if (!opened?.data) return;
  try { Object.assign(opened.data, await ask(messagePath(opened.id))); } catch { return; }
  if (state.opened === opened) $("tags")?.replaceWith(tagsOf(opened.data));
}

/** The tags of the open message; each is a link to all messages that have it. */
export function tagsOf(data) {
  return el("div", { class: "chips", id: "tags" }, ...(data.tags || []).flatMap((tag) => [
    el("button", { type: "button", class: "chip tag", title: `All with the tag ${tag}`, onclick: () => { go("#/"); search(`tag:${tag}`); } }, tag),
    data.tags_by_hand.includes(tag) ? el("button", { type: "button", class: "untag", "aria-label": `Remove ${tag}`, onclick: () => change(messagePath(data.id, `/tags/${encodeURIComponent(tag)}`), "DELETE") }, "×") : null,
  ]));
}
