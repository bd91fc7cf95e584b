// The inbox: one message

import { copyButton } from "./copy.js";
import { $, el, emptyBox, giveFocus, go, paperclip } from "./dom.js";
import { loadList, markCurrent, showNothingOpen, subjectOf } from "./list.js";
import { showResults } from "./results.js";
import { ask, asked, failed, messagePath, say } from "./server.js";
import { choice } from "./settings.js";
import { inbox, state } from "./state.js";
import { deselect } from "./selection.js";
import { askForTag, tagsOf } from "./tags.js";
import { deleteWithUndo } from "./undo.js";
import { partPath, showChecks, showHeaders, showHtml, showLinks, showParts, showSource, showText } from "./views.js";
import { FULL, STAMP, size } from "./words.js";

export async function openMessage(id) {
  if (state.opened?.id === id) return;
  const opened = { id };
  state.opened = opened;
  $("inbox").classList.add("reading");
  markCurrent();
  inbox.rows.get(id)?.item.firstChild.scrollIntoView({ block: "nearest" });
  let data;
  try {
    data = await ask(messagePath(id));
  } catch (error) {
    if (state.opened !== opened) return; // another one, or this one again
    $("message").replaceChildren(emptyBox(error.status === 404 ? "This message no longer exists" : "This message can't be shown", error.message),
      el("p", { class: "pad" }, el("a", { href: "#/" }, "Back to the inbox")));
    return;
  }
  if (state.opened !== opened) return;
  opened.data = data;
  showMessage(data);
  if (!document.activeElement?.closest(".top, .bar")) giveFocus($("message"), { preventScroll: true });
  if (data.unread) opened.seen = ask(messagePath(id, "/seen"), "PUT").then(loadList, gone);
}

/** What fails because the message no longer exists is no news: the list shows it. */
function gone(error) {
  if (error.status === 404) return loadList();
  return failed(error);
}

export function closeMessage() {
  const id = state.opened?.id;
  state.opened = null;
  $("inbox").classList.remove("reading");
  markCurrent();
  showNothingOpen();
  giveFocus(inbox.rows.get(id)?.item.firstChild);
}

/** A term and its value; a long one is cut until the reader wants all of it. */
function fact(term, value) {
  if (!value) return [];
  const shown = el("span", {}, value);
  if (value.length > 200) {
    const cut = value.lastIndexOf(",", 150);
    const more = el("button", { type: "button", class: "more", onclick: () => shown.replaceChildren(value) }, "all");
    shown.replaceChildren(`${value.slice(0, cut > 50 ? cut + 1 : 150)} … `, more);
  }
  return [el("dt", {}, term), el("dd", {}, shown, copyButton(value, term))];
}

/** Sender, recipients and time in one line, which opens to show all of them. */
function facts(data) {
  const seen = new Set(`${data.to} ${data.cc}`.toLowerCase().split(/[\s<>,;"]+/));
  const date = new Date(data.time * 1000);
  const hidden = data.envelope.rcpt_to.filter((address) => !seen.has(address.toLowerCase()));
  const bcc = hidden.slice(0, 50).join(", ") + (hidden.length > 50 ? ` and ${hidden.length - 50} more` : "");
  const brief = (name, value) => (value ? [" ", el("span", { class: "soft" }, name), " ", el("bdi", {}, value.slice(0, 300))] : []);
  const folded = el("details", { class: "fold-facts", id: "facts", open: choice.get("facts") === "open" },
    el("summary", {},
      el("span", { class: "brief" }, el("bdi", {}, data.from.slice(0, 300) || "(no sender)"), ...brief("to", data.to), ...brief("cc", data.cc), ...brief("bcc", bcc)),
      el("span", { class: "unfolded" }, "Details"),
      el("time", { class: "soft", title: FULL.format(date), datetime: date.toISOString() }, `${STAMP.format(date)} · ${size(data.size)}`)),
    el("dl", { class: "facts" },
      ...fact("From", data.from), ...fact("To", data.to), ...fact("Cc", data.cc), ...fact("Bcc", bcc),
      ...fact("Reply to", data.reply_to), ...fact("Message-ID", data.message_id)));
  folded.addEventListener("toggle", () => choice.set("facts", folded.open ? "open" : ""));
  return folded;
}

export const TABS = ["html", "text", "headers", "parts", "links", "checks", "source"];
let chosenTab; // the view that the reader chose last

function showMessage(data) {
  const actions = el("div", { class: "actions" },
    el("button", { type: "button", id: "delete-one", class: "danger", title: "Delete (Del)", onclick: deleteOpened }, "Delete"),
    el("button", { type: "button", id: "mark-unread", title: "Mark as unread (m)", onclick: unread }, "Mark unread"),
    el("button", { type: "button", id: "tag-one", title: "Tag (t)", onclick: askForTag }, "Tag"),
    RELAY ? el("button", { type: "button", id: "release", title: `Pass it on to ${RELAY}`, onclick: () => release(data) }, "Release") : null,
    el("a", { class: "button", href: messagePath(data.id, "/raw"), download: true }, "Download"));
  const tabs = [
    data.html && ["html", "HTML", showHtml],
    ["text", "Text", showText],
    ["headers", "Headers", showHeaders],
    ["parts", `Parts ${data.parts.length}`, showParts],
    ["links", `Links ${data.links.length}`, showLinks],
    ["checks", data.checks.length ? ["Checks ", el("span", { class: "badge warn" }, data.checks.length)] : ["Checks"], showChecks],
    ["source", "Source", showSource],
  ].filter(Boolean);
  const body = el("div", { class: "body", id: "body", role: "tabpanel", tabindex: "0" });
  const bar = el("div", { class: "tabs", role: "tablist", "aria-label": "Views of the message" });
  const show = (chosen) => {
    for (const button of bar.children) {
      const isIt = button.dataset.tab === chosen;
      button.setAttribute("aria-selected", isIt);
      button.tabIndex = isIt ? 0 : -1;
      if (isIt) button.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    body.dataset.tab = chosen;
    body.setAttribute("aria-labelledby", `tab-${chosen}`);
    body.replaceChildren();
    body.scrollTop = 0;
    tabs.find(([name]) => name === chosen)[2](body, data);
  };
  for (const [name, label] of tabs) {
    bar.append(el("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "body", "data-tab": name, onclick: () => { chosenTab = name; show(name); } }, ...[label].flat()));
  }
  bar.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = [...bar.children].indexOf(document.activeElement);
    const next = bar.children[(at + step + bar.children.length) % bar.children.length];
    next.focus();
    next.click();
  });
  const attached = data.parts.filter((part) => part.attachment);
  $("message").replaceChildren(
    el("div", { class: "head" },
      el("div", { class: "title" },
        el("button", { type: "button", class: "back", "aria-label": "Back to the list", title: "Back (Esc)", onclick: () => go("#/") }, "‹"),
        el("h1", { dir: "auto", tabindex: subjectOf(data).length > 100 ? "0" : null }, subjectOf(data)), actions),
      facts(data), tagsOf(data), codesOf(data), notice(data),
      attached.length ? el("div", { class: "chips", id: "attachments" }, ...attached.slice(0, CHIPS).map((part) => chip(data, part)),
        attached.length > CHIPS ? el("button", { type: "button", class: "chip", onclick: () => $("tab-parts").click() }, `and ${attached.length - CHIPS} more`) : null) : null, bar),
    body);
  showResults(data);
  show(tabs.some(([name]) => name === chosenTab) ? chosenTab : tabs[0][0]);
}

/** The one-time codes in this message. */
function codesOf(data) {
  if (!data.codes.length) return null;
  return el("div", { class: "chips", id: "codes" }, ...data.codes.map((code) => el("span", { class: "chip" }, el("code", {}, code), copyButton(code, "Code"))));
}

/** Why not all of the message is shown. */
function notice(data) {
  const texts = data.unreadable ? ["This message could not be read. Download has it as it is stored."] : data.left_out;
  return texts.length ? el("ul", { class: "notice", id: "left-out" }, ...texts.map((text) => el("li", {}, text))) : null;
}

const CHIPS = 8;
const RELAY = document.body.dataset.release;

/** Send the message on to the server's relay; the reader may change the recipients. */
async function release(data) {
  const to = await asked(`Release it to ${RELAY}, for these recipients?`, data.envelope.rcpt_to.join(", "));
  if (to === null) return;
  const words = to.split(/[\s,;]+/).filter(Boolean).map((address) => ["to", address]);
  try {
    const answer = await ask(messagePath(data.id, `/release?${new URLSearchParams(words)}`), "POST");
    say(`Released to ${answer.to}: ${answer.reply}`);
  } catch (error) { failed(error); }
}

function chip(data, part) {
  const picture = part.image
    ? el("img", { src: `${partPath(data, part)}?inline`, alt: "", loading: "lazy" })
    : paperclip();
  return el("a", { class: "chip", href: partPath(data, part), download: true, title: part.content_type },
    picture, el("span", { class: "name" }, part.filename || part.content_type), el("span", { class: "soft" }, size(part.size)));
}

export async function deleteOpened() {
  const id = state.opened?.id ?? document.activeElement?.closest?.("#list a")?.dataset.id;
  if (!id) return;
  const ids = inbox.messages.map((message) => message.id);
  const at = ids.indexOf(id);
  let next = ids[at + 1] ?? ids[at - 1];
  try { await deleteWithUndo(messagePath(id)); } catch (error) { if (error.status !== 404) { failed(error); return; } }
  deselect(id);
  await loadList();
  if (!inbox.rows.has(next)) next = (inbox.messages[at] ?? inbox.messages.at(-1))?.id;
  const wasOpen = state.opened?.id === id;
  if (wasOpen && next && !matchMedia("(max-width: 820px)").matches) go(`#/m/${encodeURIComponent(next)}`, { replace: true });
  else if (wasOpen) go("#/", { replace: true });
  else if (document.activeElement === document.body) giveFocus(inbox.rows.get(next)?.item.firstChild);
}

export async function unread() {
  const id = state.opened?.id ?? document.activeElement?.closest?.("#list a")?.dataset.id;
  if (!id) return;
  const opened = state.opened;
  await opened?.seen; // or it would be marked as read after it was marked as unread
  try { await ask(messagePath(id, "/seen"), "DELETE"); } catch (error) { gone(error); return; }
  if (opened && state.opened === opened) go("#/");
  loadList();
}
