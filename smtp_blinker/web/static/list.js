// The inbox: the list

import { $, el, emptyBox, go, paperclip } from "./dom.js";
import { showWelcome } from "./empty.js";
import { box, chosen, clearChosen, howMany, named, show } from "./selection.js";
import { INBOX, MESSAGES, ask, confirmed, failed } from "./server.js";
import { inbox, openedId, state } from "./state.js";
import { deleteWithUndo } from "./undo.js";
import { FULL, NUMBER, nameOf, plural, when } from "./words.js";

const PAGE = 50;

export async function loadList() {
  const turn = ++inbox.asked;
  const question = () => `${new URLSearchParams({ q: inbox.query, offset: inbox.offset, limit: PAGE, within: 0.2 })}`;
  const query = question();
  let answer;
  try { answer = await ask(`${MESSAGES}?${query}`); } catch (error) { if (error.status) failed(error); return; }
  if (turn < inbox.shown || query !== question()) return; // a newer request has replaced this one
  inbox.shown = turn;
  if (inbox.offset && !answer.messages.length) { inbox.offset = Math.max(0, inbox.offset - PAGE); loadList(); return; }
  Object.assign(inbox, { messages: answer.messages, matching: answer.matching, total: answer.total, hint: answer.hint });
  showCounts(answer);
  showList(answer.pending);
}

export function showCounts({ unread }) {
  $("unread").hidden = !unread;
  $("unread").textContent = unread > 999 ? "999+" : unread;
  document.title = unread ? `(${unread}) smtp_blinker` : "smtp_blinker";
}

function showList(pending) {
  const focused = document.activeElement?.closest?.("#list a")?.dataset.id;
  const rows = new Map();
  for (const message of inbox.messages) {
    const old = inbox.rows.get(message.id);
    const text = JSON.stringify(message);
    let row = old;
    if (!old || old.text !== text) {
      const arrived = inbox.known !== null && !inbox.known.has(message.id);
      row = { text, item: el("li", {}, listRow(message, arrived), box(message)) };
    }
    rows.set(message.id, row);
  }
  inbox.rows = rows;
  inbox.known = new Set([...(inbox.known || []), ...rows.keys()]);
  const items = [...rows.values()].map((row) => row.item);
  const list = $("list");
  if (items.length !== list.children.length || items.some((item, at) => item !== list.children[at])) {
    list.replaceChildren(...items);
    if (focused) (rows.get(focused)?.item.firstChild)?.focus({ preventScroll: true });
  }
  markCurrent();

  const first = inbox.offset + 1;
  const last = inbox.offset + inbox.messages.length;
  const found = inbox.query ? "found" : "messages";
  $("range").textContent =
    (inbox.matching > PAGE ? `${first}–${last} of ${NUMBER.format(inbox.matching)}` :
      inbox.query ? `${NUMBER.format(inbox.matching)} ${found}` : plural(inbox.matching, "message")) +
    (pending ? ` · reading ${NUMBER.format(pending)} more` : "");
  $("newer").disabled = inbox.offset === 0;
  $("older").disabled = last >= inbox.matching;
  $("newer").hidden = $("older").hidden = inbox.matching <= PAGE;
  $("delete-all").disabled = $("see-all").disabled = !inbox.matching;
  show();
  $("list").hidden = !inbox.matching;
  $("list-empty").hidden = Boolean(inbox.matching);
  $("inbox").classList.toggle("bare", !inbox.total && !state.opened);
  if (!inbox.matching) showEmptyList(pending);
  if (!state.opened) showNothingOpen();
}

let welcome; // the servers that the empty inbox names

function showEmptyList(pending) {
  if (inbox.query) {
    $("list-empty").replaceChildren(
      el("strong", {}, pending ? "Still looking …" : "Nothing found"),
      el("span", {}, `No message matches “${inbox.query}”.`),
      inbox.hint ? el("span", { id: "hint" }, `${inbox.hint}.`) : null,
      el("button", { type: "button", onclick: () => search("") }, "Show all"));
    return;
  }
  if (pending) { // the first look found mail that isn't read yet
    $("list-empty").replaceChildren(el("strong", {}, "Reading the mail …"));
    return;
  }
  // Rebuilt only when its contents change: the reader may be about to press a button in it.
  const place = JSON.stringify(state.servers);
  if (welcome === place && $("list-empty").querySelector("dl")) return;
  welcome = place;
  showWelcome($("list-empty"), state.servers);
}

export const subjectOf = (message) => message.subject || (message.unreadable ? "(could not be read)" : "(no subject)");

function listRow(message, arrived) {
  const to = message.to || message.recipients.join(", ");
  const cut = message.cut ? el("span", { class: "cut", title: "The list and the search have only a part of it" }, "cut ") : null;
  const clip = message.attachments ? el("span", { title: plural(message.attachments, "attachment") }, paperclip(), ` ${message.attachments}`) : null;
  return el("a", {
    href: `#/m/${encodeURIComponent(message.id)}`, "data-id": message.id,
    class: [message.unread ? "unread" : "", arrived ? "arrived" : ""].join(" ").trim(),
    title: to ? `To: ${to.slice(0, 300)}` : null,
  },
  el("span", { class: "who" }, nameOf(message.from) || "(no sender)", to ? ` → ${nameOf(to)}` : ""),
  el("time", { class: "when", datetime: new Date(message.time * 1000).toISOString(), title: FULL.format(new Date(message.time * 1000)) }, when(message.time)),
  el("span", { class: "subject", dir: "auto" }, subjectOf(message), ...message.tags.slice(0, 5).map((tag) => el("span", { class: "tag" }, tag))), cut || clip ? el("span", { class: "clip" }, cut, clip) : null,
  el("span", { class: "snippet", dir: "auto" }, message.snippet || "\u00a0"));
}

export function markCurrent() {
  for (const [id, row] of inbox.rows) {
    if (state.opened?.id === id) row.item.firstChild.setAttribute("aria-current", "true");
    else row.item.firstChild.removeAttribute("aria-current");
  }
}

export function search(query) {
  $("search").value = query;
  inbox.query = query.trim();
  // Kept in the page's address, so that a reload, a bookmark or a link shows the same list.
  const words = [["inbox", INBOX], ["q", inbox.query]].filter(([, value]) => value);
  const kept = words.length ? `?${new URLSearchParams(words)}` : location.pathname;
  history.replaceState(null, "", kept + location.hash);
  inbox.offset = 0;
  clearChosen();
  $("list").scrollTop = 0;
  inbox.known = null;
  loaded = loadList();
  return loaded;
}

let loaded; // a promise of the page of the list that was asked for last

/** Wait for the list that a search or another page was asked for. */
export const listLoaded = () => loaded;

/** Returns whether there is such a page. */
export function turnPage(pages) {
  const offset = inbox.offset + pages * PAGE;
  if (offset < 0 || offset >= inbox.matching) return false;
  inbox.offset = offset;
  clearChosen();
  inbox.known = null;
  $("list").scrollTop = 0;
  loaded = loadList();
  return true;
}

/** Open the next message, or the one before it, going on to the next page at the end of this one. */
export async function move(step) {
  await loaded; // not in a list that a search is about to replace
  let ids = inbox.messages.map((message) => message.id);
  const current = openedId() ?? document.activeElement?.closest?.("#list a")?.dataset.id;
  const at = ids.indexOf(current);
  let next = ids[at < 0 ? (step > 0 ? 0 : ids.length - 1) : at + step];
  if (!next && turnPage(step)) {
    await loaded;
    ids = inbox.messages.map((message) => message.id);
    next = step > 0 ? ids[0] : ids.at(-1);
  }
  if (!next || $("inbox").hidden) return;
  go(`#/m/${encodeURIComponent(next)}`, { replace: Boolean(openedId()) }); // Back leads to the list
}

export function showNothingOpen() {
  $("message").replaceChildren(emptyBox("Nothing open", "Choose a message, or press j. All keys: ?"));
}

export async function deleteAll() {
  const count = howMany();
  if (!chosen.size && !await confirmed(inbox.query ? `Delete the ${count} that match “${inbox.query}”? You can undo this for 10 seconds.` : `Delete all ${count}? You can undo this for 10 seconds.`)) return;
  try { await deleteWithUndo(`${MESSAGES}${named()}`); } catch (error) { failed(error); }
  clearChosen();
  inbox.offset = 0;
  go("#/");
  loadList();
}

export async function seeAll() {
  try { await ask(`${MESSAGES}/seen${named()}`, "PUT"); } catch (error) { failed(error); }
  clearChosen();
  loadList();
}
