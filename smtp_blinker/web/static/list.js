// The inbox: the list

import { $, el, emptyBox, paperclip } from "./dom.js";
import { ask, confirmed, failed, say } from "./server.js";
import { inbox, state } from "./state.js";
import { NUMBER, nameOf, plural, when } from "./words.js";

const PAGE = 50;

export async function loadList() {
  const turn = ++inbox.asked;
  const question = () => `${new URLSearchParams({ q: inbox.query, offset: inbox.offset, limit: PAGE, within: 0.2 })}`;
  const query = question();
  let answer;
  try { answer = await ask(`api/messages?${query}`); } catch (error) { if (error.status) failed(error); return; }
  if (turn < inbox.shown || query !== question()) return; // something else is wanted by now
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
      row = { text, item: el("li", {}, listRow(message, arrived)) };
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
  $("delete-all").textContent = inbox.query ? "Delete found" : "Delete all";
  $("list").hidden = !inbox.matching;
  $("list-empty").hidden = Boolean(inbox.matching);
  $("inbox").classList.toggle("bare", !inbox.total && !state.opened);
  if (!inbox.matching) showEmptyList(pending);
  if (!state.opened) showNothingOpen();
}

function showEmptyList(pending) {
  if (inbox.query) {
    $("list-empty").replaceChildren(
      el("strong", {}, pending ? "Still looking …" : "Nothing found"),
      el("span", {}, `No message matches “${inbox.query}”.`),
      inbox.hint ? el("span", { id: "hint" }, `${inbox.hint}.`) : null,
      el("button", { type: "button", onclick: () => search("") }, "Show all"));
    return;
  }
  const box = $("list-empty");
  box.replaceChildren(el("strong", {}, "No mail yet"), el("span", {}, "It appears here by itself as it arrives."), el("a", { href: "#/refused" }, "What was refused, and why"));
  if (!state.servers.length) return;
  const match = /^(.*):(\d+)$/.exec(state.servers[0].address);
  if (match) {
    const host = { "0.0.0.0": "127.0.0.1", "[::]": "::1", "": "127.0.0.1" }[match[1]] ?? match[1].replace(/[[\]]/g, "");
    box.append(el("pre", {}, `python3 -c "import smtplib; smtplib.SMTP('${host}', ${match[2]}).sendmail('you@example.com', 'me@example.com', 'To: me@example.com\\nSubject: It works\\n\\nHello')"`));
  }
}

export const subjectOf = (message) => message.subject || (message.unreadable ? "(could not be read)" : "(no subject)");

function listRow(message, arrived) {
  const to = message.to || message.recipients.join(", ");
  const cut = message.cut ? el("span", { class: "cut", title: "It has more than the list and the search know" }, "cut ") : null;
  const clip = message.attachments ? el("span", { title: plural(message.attachments, "attachment") }, paperclip(), ` ${message.attachments}`) : null;
  return el("a", {
    href: `#/m/${encodeURIComponent(message.id)}`, "data-id": message.id,
    class: [message.unread ? "unread" : "", arrived ? "arrived" : ""].join(" ").trim(),
    title: to ? `To: ${to.slice(0, 300)}` : null,
  },
  el("span", { class: "who" }, nameOf(message.from) || "(no sender)", to ? ` → ${nameOf(to)}` : ""),
  el("time", { class: "when", datetime: new Date(message.time * 1000).toISOString() }, when(message.time)),
  el("span", { class: "subject" }, subjectOf(message)), cut || clip ? el("span", { class: "clip" }, cut, clip) : null,
  el("span", { class: "snippet" }, message.snippet || "\u00a0"));
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
  // Kept in the address: a reload, a bookmark and a link find the same.
  const kept = inbox.query ? `?${new URLSearchParams({ q: inbox.query })}` : location.pathname;
  history.replaceState(null, "", kept + location.hash);
  inbox.offset = 0;
  $("list").scrollTop = 0;
  inbox.known = null;
  loadList();
}

export function turnPage(pages) {
  const offset = inbox.offset + pages * PAGE;
  if (offset < 0 || offset >= inbox.matching) return;
  inbox.offset = offset;
  inbox.known = null;
  $("list").scrollTop = 0;
  loadList();
}

export function move(step) {
  const ids = inbox.messages.map((message) => message.id);
  const current = state.opened?.id ?? document.activeElement?.closest?.("#list a")?.dataset.id;
  const at = ids.indexOf(current);
  const next = ids[Math.min(Math.max(at < 0 ? (step > 0 ? 0 : ids.length - 1) : at + step, 0), ids.length - 1)];
  if (!next) return;
  const row = inbox.rows.get(next).item.firstChild;
  row.scrollIntoView({ block: "nearest" });
  if (state.opened) location.replace(row.href);
  else row.focus();
}

export function showNothingOpen() {
  $("message").replaceChildren(emptyBox("Nothing open", "Choose a message, or press j. All keys: ?"));
}

/** What chooses the messages on the list; a change of all of them must not name a search. */
const searched = () => (inbox.query ? `?${new URLSearchParams({ q: inbox.query })}` : "");

export async function deleteAll() {
  const count = plural(inbox.matching, "message");
  if (!await confirmed(inbox.query ? `Delete the ${count} that match “${inbox.query}”? There is no way back.` : `Delete all ${count}? There is no way back.`)) return;
  try {
    const answer = await ask(`api/messages${searched()}`, "DELETE");
    say(`${plural(answer.deleted, "message")} deleted`);
  } catch (error) { failed(error); }
  inbox.offset = 0;
  location.hash = "#/";
  loadList();
}

export async function seeAll() {
  try { await ask(`api/messages/seen${searched()}`, "PUT"); } catch (error) { failed(error); }
  loadList();
}
