"use strict";
// The whole page. What comes from a message or a client is set as text, never parsed as markup;
// the content security policy's require-trusted-types-for would refuse it anyway.

const PAGE = 50;
const HAS_INBOX = document.body.dataset.inbox === "yes";
const $ = (id) => document.getElementById(id);

// Elements

function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function shape(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** Drawn, since not every system has a font with one. */
function paperclip() {
  const icon = shape("svg", { viewBox: "0 0 16 16", class: "icon", "aria-hidden": "true" });
  icon.append(shape("path", { d: "M13.5 7.5 8 13a3.5 3.5 0 0 1-5-5l6-6a2.3 2.3 0 0 1 3.3 3.3L6.5 11A1.1 1.1 0 0 1 5 9.400l5-5" }));
  return icon;
}

/** Text with its web addresses as links, which open a tab that doesn't know the page. */
function linked(text) {
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']{1,2000}/g)) {
    const address = match[0].replace(/[.,;:!?)\]}]+$/, "");
    nodes.push(text.slice(at, match.index), el("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, address));
    at = match.index + address.length;
  }
  return [...nodes, text.slice(at)];
}

function toggle(label, pressed, change, attributes = {}) {
  return el("button", {
    type: "button", "aria-pressed": String(pressed), ...attributes,
    onclick: (event) => {
      const on = event.target.getAttribute("aria-pressed") !== "true";
      event.target.setAttribute("aria-pressed", on);
      change(on);
    },
  }, label);
}

// What the reader chose, kept in this browser

const choice = {
  get: (name) => { try { return localStorage.getItem(`smtp_blinker.${name}`) || ""; } catch { return ""; } },
  set: (name, value) => { try { localStorage.setItem(`smtp_blinker.${name}`, value); } catch { /* for this time only */ } },
};

function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark"
  || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);

showTheme(choice.get("theme"));

// Words and numbers

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const YEAR = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });
const SHORT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const NUMBER = new Intl.NumberFormat();

function when(seconds) {
  const date = new Date(seconds * 1000);
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return CLOCK.format(date);
  return (date.getFullYear() === now.getFullYear() ? DAY : YEAR).format(date);
}

function size(octets) {
  let unit = 0;
  while (octets >= 1000 && unit < 4) { octets /= 1024; unit += 1; }
  const digits = unit && octets < 10 ? 1 : 0;
  return `${octets.toFixed(digits)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

function amount(number) {
  if (number >= 1e6) return `${(number / 1e6).toFixed(1)} M`;
  if (number >= 1e4) return `${(number / 1e3).toFixed(1)} k`;
  return NUMBER.format(number < 10 ? Math.round(number * 100) / 100 : Math.round(number));
}

function duration(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

function plural(number, word) {
  return `${NUMBER.format(number)} ${word}${number === 1 ? "" : "s"}`;
}

/** The name in `Name <address>`, or the address. */
function nameOf(address) {
  const match = /^\s*"?([^"<]*?)"?\s*<([^<>]*)>\s*$/.exec(address);
  return match ? match[1] || match[2] : address;
}

// The server

async function ask(path, method = "GET") {
  const response = await fetch(path, { method, headers: { Accept: "application/json" } });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(answer.error || `${response.status}`), { status: response.status });
  return answer;
}

const messagePath = (id, rest = "") => `/api/messages/${encodeURIComponent(id)}${rest}`;

let toastTimer;
function say(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 4000);
}

const failed = (error) => say(`That didn't work: ${error.message}`);

function confirmed(question) {
  const dialog = $("confirm");
  $("confirm-text").textContent = question;
  dialog.showModal();
  $("confirm-no").focus();
  return new Promise((resolve) => {
    let answer = false;
    $("confirm-yes").onclick = () => { answer = true; dialog.close(); };
    $("confirm-no").onclick = () => dialog.close();
    dialog.onclose = () => resolve(answer);
  });
}

// Inbox: the list

const inbox = { messages: [], rows: new Map(), query: "", offset: 0, matching: 0, total: 0, known: null, asked: 0, shown: 0 };
let opened = null; // the message on display: { id, data }

async function loadList() {
  const turn = ++inbox.asked;
  const question = () => `${new URLSearchParams({ q: inbox.query, offset: inbox.offset, limit: PAGE, within: 0.2 })}`;
  const query = question();
  let answer;
  try { answer = await ask(`/api/messages?${query}`); } catch (error) { if (error.status) failed(error); return; }
  if (turn < inbox.shown || query !== question()) return; // something else is wanted by now
  inbox.shown = turn;
  if (inbox.offset && !answer.messages.length) { inbox.offset = Math.max(0, inbox.offset - PAGE); loadList(); return; }
  Object.assign(inbox, { messages: answer.messages, matching: answer.matching, total: answer.total });
  showCounts(answer);
  showList(answer.pending);
}

function showCounts({ unread }) {
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
  $("inbox").classList.toggle("bare", !inbox.total && !opened);
  if (!inbox.matching) showEmptyList(pending);
  if (!opened) showNothingOpen();
}

function showEmptyList(pending) {
  if (inbox.query) {
    $("list-empty").replaceChildren(
      el("strong", {}, pending ? "Still looking …" : "Nothing found"),
      el("span", {}, `No message matches “${inbox.query}”.`),
      el("button", { type: "button", onclick: () => search("") }, "Show all"));
    return;
  }
  const box = $("list-empty");
  box.replaceChildren(el("strong", {}, "No mail yet"), el("span", {}, "It appears here by itself as it arrives."));
  if (!servers.length) return;
  const match = /^(.*):(\d+)$/.exec(servers[0].address);
  if (match) {
    const host = { "0.0.0.0": "127.0.0.1", "[::]": "::1", "": "127.0.0.1" }[match[1]] ?? match[1].replace(/[[\]]/g, "");
    box.append(el("pre", {}, `python3 -c "import smtplib; smtplib.SMTP('${host}', ${match[2]}).sendmail('you@example.com', 'me@example.com', 'To: me@example.com\\nSubject: It works\\n\\nHello')"`));
  }
}

function listRow(message, arrived) {
  const to = message.to || message.recipients.join(", ");
  const clip = message.attachments ? el("span", { class: "clip", title: plural(message.attachments, "attachment") }, paperclip(), ` ${message.attachments}`) : null;
  return el("a", {
    href: `#/m/${encodeURIComponent(message.id)}`, "data-id": message.id,
    class: [message.unread ? "unread" : "", arrived ? "arrived" : ""].join(" ").trim(),
    title: to ? `To: ${to.slice(0, 300)}` : null,
  },
  el("span", { class: "who" }, nameOf(message.from) || "(no sender)", to ? ` → ${nameOf(to)}` : ""),
  el("time", { class: "when", datetime: new Date(message.time * 1000).toISOString() }, when(message.time)),
  el("span", { class: "subject" }, message.subject || "(no subject)"), clip,
  el("span", { class: "snippet" }, message.snippet || "\u00a0"));
}

function markCurrent() {
  for (const [id, row] of inbox.rows) {
    if (opened?.id === id) row.item.firstChild.setAttribute("aria-current", "true");
    else row.item.firstChild.removeAttribute("aria-current");
  }
}

function search(query) {
  $("search").value = query;
  inbox.query = query.trim();
  inbox.offset = 0;
  $("list").scrollTop = 0;
  inbox.known = null;
  loadList();
}

function turnPage(pages) {
  const offset = inbox.offset + pages * PAGE;
  if (offset < 0 || offset >= inbox.matching) return;
  inbox.offset = offset;
  inbox.known = null;
  $("list").scrollTop = 0;
  loadList();
}

function move(step) {
  const ids = inbox.messages.map((message) => message.id);
  const current = opened?.id ?? document.activeElement?.closest?.("#list a")?.dataset.id;
  const at = ids.indexOf(current);
  const next = ids[Math.min(Math.max(at < 0 ? (step > 0 ? 0 : ids.length - 1) : at + step, 0), ids.length - 1)];
  if (!next) return;
  const row = inbox.rows.get(next).item.firstChild;
  row.scrollIntoView({ block: "nearest" });
  if (opened) location.replace(row.href);
  else row.focus();
}

// Inbox: one message

async function openMessage(id) {
  if (opened?.id === id) return;
  opened = { id };
  $("inbox").classList.add("reading");
  markCurrent();
  inbox.rows.get(id)?.item.firstChild.scrollIntoView({ block: "nearest" });
  let data;
  try {
    data = await ask(messagePath(id));
  } catch (error) {
    if (opened?.id !== id) return;
    $("message").replaceChildren(emptyBox(error.status === 404 ? "This message is gone" : "It can't be shown", error.message),
      el("p", { class: "pad" }, el("a", { href: "#/" }, "Back to the inbox")));
    return;
  }
  if (opened?.id !== id) return;
  opened.data = data;
  showMessage(data);
  $("message").focus({ preventScroll: true });
  if (data.unread) ask(messagePath(id, "/seen"), "PUT").then(loadList, failed);
}

function closeMessage() {
  const id = opened?.id;
  opened = null;
  $("inbox").classList.remove("reading");
  markCurrent();
  showNothingOpen();
  if (id) inbox.rows.get(id)?.item.firstChild.focus();
}

function emptyBox(title, text) {
  return el("div", { class: "empty" }, el("strong", {}, title), el("span", {}, text));
}

function showNothingOpen() {
  $("message").replaceChildren(emptyBox("Nothing open", "Choose a message, or press j. All keys: ?"));
}

/** A term and its value; a long one is cut until the reader wants all of it. */
function fact(term, value) {
  if (!value) return [];
  const dd = el("dd", {}, value);
  if (value.length > 200) {
    const cut = value.lastIndexOf(",", 150);
    const more = el("button", { type: "button", class: "more", onclick: () => dd.replaceChildren(value) }, "all");
    dd.replaceChildren(`${value.slice(0, cut > 50 ? cut + 1 : 150)} … `, more);
  }
  return [el("dt", {}, term), dd];
}

const TABS = ["html", "text", "headers", "parts", "links", "checks", "source"];
let chosenTab; // the view that the reader chose last

function showMessage(data) {
  const seen = new Set(`${data.to} ${data.cc}`.toLowerCase().match(/[^\s<>,;"]+@[^\s<>,;"]+/g) || []);
  const date = new Date(data.time * 1000);
  const hidden = data.envelope.rcpt_to.filter((address) => !seen.has(address.toLowerCase()));
  const facts = el("dl", { class: "facts" },
    ...fact("From", data.from), ...fact("To", data.to), ...fact("Cc", data.cc),
    ...fact("Bcc", hidden.slice(0, 50).join(", ") + (hidden.length > 50 ? ` and ${hidden.length - 50} more` : "")),
    ...fact("Reply to", data.reply_to));
  const actions = el("div", { class: "actions" },
    el("button", { type: "button", class: "back", onclick: () => { location.hash = "#/"; } }, "‹ Back"),
    el("button", { type: "button", id: "delete-one", class: "danger", title: "Delete (Del)", onclick: deleteOpened }, "Delete"),
    el("button", { type: "button", id: "mark-unread", title: "Mark as unread (m)", onclick: unread }, "Mark unread"),
    el("a", { class: "button", href: messagePath(data.id, "/raw"), download: true }, "Download"),
    el("span", { class: "spacer" }),
    el("time", { class: "soft", title: FULL.format(date), datetime: date.toISOString() }, `${SHORT.format(date)} · ${size(data.size)}`));
  const tabs = [
    data.html && ["html", "HTML", showHtml],
    ["text", "Text", showText],
    ["headers", "Headers", showHeaders],
    ["parts", `Parts ${data.parts.length}`, showParts],
    ["links", `Links ${data.links.length}`, showLinks],
    ["checks", data.checks.length ? ["Checks ", el("span", { class: "badge warn" }, data.checks.length)] : ["Checks"], showChecks],
    ["source", "Source", showSource],
  ].filter(Boolean);
  const body = el("div", { class: "body", id: "body", role: "tabpanel", tabindex: "-1" });
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
    el("div", { class: "head" }, actions, el("h1", {}, data.subject || "(no subject)"), facts,
      attached.length ? el("div", { class: "chips", id: "attachments" }, ...attached.slice(0, CHIPS).map((part) => chip(data, part)),
        attached.length > CHIPS ? el("button", { type: "button", class: "chip", onclick: () => $("tab-parts").click() }, `and ${attached.length - CHIPS} more`) : null) : null, bar),
    body);
  show(tabs.some(([name]) => name === chosenTab) ? chosenTab : tabs[0][0]);
}

const CHIPS = 8;
const partPath = (data, part) => messagePath(data.id, `/parts/${part.number}`);

function chip(data, part) {
  const picture = part.image
    ? el("img", { src: `${partPath(data, part)}?inline`, alt: "", loading: "lazy" })
    : paperclip();
  return el("a", { class: "chip", href: partPath(data, part), download: true, title: part.content_type },
    picture, el("span", { class: "name" }, part.filename || part.content_type), el("span", { class: "soft" }, size(part.size)));
}

function showHtml(body, data) {
  const frame = el("iframe", {
    title: "The message's HTML", sandbox: "allow-popups allow-popups-to-escape-sandbox",
    referrerpolicy: "no-referrer", src: messagePath(data.id, "/html"),
  });
  const stage = el("div", { class: "stage" }, frame);
  const dark = isDark();
  frame.classList.toggle("dark", dark);
  const alone = el("a", { class: "button", target: "_blank", rel: "noopener", href: frame.getAttribute("src"), title: "The message's HTML in a tab of its own" }, "Own tab");
  const note = el("span", {}, "Scripts, forms and remote content are off.");
  const tools = el("div", { class: "strip" },
    toggle("Phone width", false, (on) => stage.classList.toggle("narrow", on), { class: "wide-only" }),
    toggle("Dark", dark, (on) => frame.classList.toggle("dark", on), { title: "As a reader with a dark screen sees it" }),
    alone, note);
  if (data.remote_content) {
    tools.classList.add("warn");
    note.textContent = "Remote content is not loaded.";
    const load = el("button", {
      type: "button", id: "load-remote",
      onclick: () => {
        frame.src = alone.href = messagePath(data.id, "/html?images=remote");
        load.remove();
        note.textContent = "Remote images are loaded.";
      },
    }, "Load images");
    tools.append(load);
  }
  body.append(tools, stage);
}

function showText(body, data) {
  if (!data.text) { body.append(emptyBox("No text", "The message has nothing to read in it.")); return; }
  const fixed = choice.get("fixed") === "yes";
  const text = el("pre", { class: fixed ? "text" : "text reading" }, ...linked(data.text));
  body.append(el("div", { class: "strip" },
    toggle("Fixed width", fixed, (on) => { text.classList.toggle("reading", !on); choice.set("fixed", on ? "yes" : ""); }),
    data.text_from_html ? "The message has no text part; this is what its HTML says." : null), text);
}

const NUMBERS = new Set(["Open for", "Messages", "Octets", "Connections", "Size"]);

function table(heads, rows, none = "nothing") {
  if (!rows.length) return el("p", { class: "none" }, none);
  return el("table", { class: heads ? "fold" : null },
    heads ? el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col", class: NUMBERS.has(head) ? "num" : null }, head)))) : null,
    el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell, at) =>
      labelled(cell instanceof Node ? cell : el(at || heads ? "td" : "th", { class: "wrap" }, cell), heads?.[at]))))));
}

/** On a phone a row of a table becomes a few lines, each value with its column's head. */
function labelled(cell, head) {
  if (head) cell.dataset.head = head;
  return cell;
}

function showHeaders(body, data) {
  const { envelope, session } = data;
  const envelopeRows = [["Mail from", envelope.mail_from === null ? "not recorded" : `<${envelope.mail_from}>`]];
  for (const address of envelope.rcpt_to.slice(0, 200)) envelopeRows.push(["Rcpt to", `<${address}>`]);
  if (envelope.rcpt_to.length > 200) envelopeRows.push(["", `and ${envelope.rcpt_to.length - 200} more`]);
  const names = { address: "Client", hostname: "Reverse DNS", helo: "Says it is", by: "Received by", protocol: "Protocol", tls: "TLS", cipher: "Cipher", id: "Id", date: "Date" };
  const sessionRows = session ? Object.entries(names).filter(([name]) => session[name]).map(([name, label]) => [label, session[name]]) : [];
  body.append(el("div", { class: "pad two" },
    el("section", { class: "card" }, el("h2", {}, "Header fields"), table(null, data.headers)),
    el("div", { class: "pad-side" },
      el("section", { class: "card" }, el("h2", {}, "SMTP envelope"), table(null, envelopeRows)),
      el("section", { class: "card" }, el("h2", {}, "Session"), table(null, sessionRows, "Not recorded in this file.")))));
}

function showParts(body, data) {
  const rows = data.parts.map((part) => [
    el("td", {}, el("span", { class: `depth${Math.min(part.depth, 4)}` }, part.content_type)),
    part.filename || (part.content_id ? `cid:${part.content_id}` : ""),
    [part.charset, part.encoding].filter(Boolean).join(", "),
    el("td", { class: "num" }, size(part.size)),
    part.multipart ? "" : el("td", { class: "num" }, el("a", { href: partPath(data, part), download: true }, "Download")),
  ]);
  body.append(el("div", { class: "pad" }, el("section", { class: "card" }, el("div", { class: "scroll tall" },
    table(["Type", "Name", "Encoding", "Size", ""], rows)))));
}

function showLinks(body, data) {
  if (!data.links.length) { body.append(emptyBox("No links", "The message links to nothing.")); return; }
  body.append(el("div", { class: "pad" }, el("section", { class: "card" }, el("ul", { class: "links" },
    ...data.links.map((link) => el("li", {}, el("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, link)))))));
}

function showChecks(body, data) {
  if (!data.checks.length) { body.append(emptyBox("Nothing was found wrong", "Which isn’t to say that every reader will like it.")); return; }
  body.append(el("div", { class: "pad" },
    el("section", { class: "card" }, el("ul", { class: "links" }, ...data.checks.map((text) => el("li", {}, text)))),
    el("p", { class: "soft" }, "What standards forbid, and what readers are known to suffer from.")));
}

async function showSource(body, data) {
  let text;
  try {
    const response = await fetch(messagePath(data.id, "/source"));
    if (!response.ok) throw new Error(response.status);
    text = await response.text();
  } catch (error) { failed(error); return; }
  if (body.dataset.tab !== "source" || !body.isConnected) return;
  if (data.size > text.length && data.size > 2 ** 20) body.append(el("div", { class: "strip" }, "The first mebibyte. Download has all of it."));
  body.append(el("pre", { class: "text", id: "source" }, text));
}

async function deleteOpened() {
  const id = opened?.id ?? document.activeElement?.closest?.("#list a")?.dataset.id;
  if (!id) return;
  const ids = inbox.messages.map((message) => message.id);
  const at = ids.indexOf(id);
  const next = ids[at + 1] ?? ids[at - 1];
  try { await ask(messagePath(id), "DELETE"); } catch (error) { if (error.status !== 404) { failed(error); return; } }
  say("Deleted");
  const wasOpen = opened?.id === id;
  await loadList();
  if (wasOpen && next && !matchMedia("(max-width: 820px)").matches) location.replace(`#/m/${encodeURIComponent(next)}`);
  else if (wasOpen) { opened = null; location.replace("#/"); }
  else inbox.rows.get(next)?.item.firstChild.focus();
}

async function unread() {
  const id = opened?.id ?? document.activeElement?.closest?.("#list a")?.dataset.id;
  if (!id) return;
  try { await ask(messagePath(id, "/seen"), "DELETE"); } catch (error) { failed(error); return; }
  if (opened) location.hash = "#/";
  loadList();
}

async function deleteAll() {
  const count = plural(inbox.matching, "message");
  if (!await confirmed(inbox.query ? `Delete the ${count} that match “${inbox.query}”? There is no way back.` : `Delete all ${count}? There is no way back.`)) return;
  try {
    const answer = await ask(`/api/messages?${new URLSearchParams({ q: inbox.query })}`, "DELETE");
    say(`${plural(answer.deleted, "message")} deleted`);
  } catch (error) { failed(error); }
  inbox.offset = 0;
  location.hash = "#/";
  loadList();
}

async function seeAll() {
  try { await ask(`/api/messages/seen?${new URLSearchParams({ q: inbox.query })}`, "PUT"); } catch (error) { failed(error); }
  loadList();
}

// Live: plots

const PLOTS = [
  { title: "Messages", hint: "per second", kinds: ["messages"], rate: true, colors: { messages: 0 } },
  { title: "Octets of messages", hint: "per second", kinds: ["bytes"], rate: true, colors: { bytes: 2 }, unit: size, base: 1024, names: { bytes: "octets" } },
  { title: "Replies by code", hint: "to messages and refused commands", prefix: "reply:", color: (kind) => ({ 2: [0, 2], 4: [1, 4], 5: [7, 3] }[kind[0]] || [6]) },
  { title: "Refused commands", hint: "by verb", prefix: "refused:", colors: { RCPT: 7, MAIL: 1, DATA: 3, AUTH: 5, none: 6 } },
  { title: "Disconnects by reason", prefix: "disconnect:", colors: { quit: 0, eof: 4, timeout: 1, reset: 3, shutdown: 2, refused: 7, abuse: 5 } },
  { title: "Errors by code", prefix: "error:", color: () => [7, 1, 3, 5, 4, 2, 6] },
  { title: "AUTH", prefix: "auth:", colors: { success: 0, failure: 7 } },
];

/** The next round number: 1, 2 or 5 with noughts, or a power of two times them for octets. */
function ceiling(value, base = 1000) {
  if (!value) return 0;
  let unit = 1;
  while (value / unit > base / 2) unit *= base;
  const power = base === 1024 ? Math.max(1, 10 ** Math.floor(Math.log10(value / unit))) : 10 ** Math.floor(Math.log10(value / unit));
  return unit * power * ([1, 2, 5, 10].find((step) => step * power * (1 + 1e-9) >= value / unit) || 10);
}

class Plot {
  constructor(kind) {
    this.kind = kind;
    this.palette = new Map();
    this.axis = [0, 1, 2].map(() => el("span"));
    this.times = [0, 1, 2].map(() => el("span"));
    this.svg = shape("svg", { preserveAspectRatio: "none", role: "img", "aria-label": kind.title });
    this.legend = el("div", { class: "legend" });
    this.element = el("section", { class: "card plot" },
      el("h2", {}, kind.title, kind.hint ? el("span", { class: "hint" }, kind.hint) : null),
      el("div", { class: "amounts" }, ...this.axis), this.svg,
      el("div", { class: "times" }, ...this.times), this.legend);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.at = Math.floor(((event.clientX - box.left) / box.width) * this.series.length);
      this.draw();
    });
    this.svg.addEventListener("pointerleave", () => { this.at = undefined; this.draw(); });
  }

  color(name) {
    if (this.kind.colors && name in this.kind.colors) return this.kind.colors[name];
    if (!this.palette.has(name)) {
      const choices = this.kind.color ? this.kind.color(name) : [6, 5, 4, 3, 1];
      this.palette.set(name, choices[[...this.palette.keys()].filter((other) => other[0] === name[0] || !this.kind.color).length % choices.length]);
    }
    return this.palette.get(name);
  }

  show(series) { this.series = series; this.draw(); }

  draw() {
    const { series, kind } = this;
    if (!series) return;
    const first = series.end - series.length + 1;
    const columns = new Map();
    const totals = new Map();
    for (const { number, counts } of series.intervals) {
      const column = [];
      for (const [key, count] of Object.entries(counts)) {
        if (kind.prefix ? !key.startsWith(kind.prefix) : !kind.kinds.includes(key)) continue;
        const name = kind.prefix ? key.slice(kind.prefix.length) : key;
        column.push([name, kind.rate ? count / series.step : count]);
        totals.set(name, (totals.get(name) || 0) + count);
      }
      if (column.length) columns.set(number - first, column);
    }
    const names = [...totals.keys()].sort();
    let top = 0;
    for (const column of columns.values()) top = Math.max(top, column.reduce((sum, [, value]) => sum + value, 0));
    const unit = kind.unit || amount;
    top = ceiling(top, kind.base);
    const paths = new Map(names.map((name) => [name, ""]));
    for (const [x, column] of columns) {
      let y = 100;
      for (const [name, value] of column.sort()) {
        const height = (value / top) * 100;
        y -= height;
        paths.set(name, `${paths.get(name)}M${x} ${y.toFixed(2)}h.86v${height.toFixed(2)}h-.86z`);
      }
    }
    this.svg.setAttribute("viewBox", `0 0 ${series.length} 100`);
    this.svg.replaceChildren(
      ...[0, 50, 100].map((y) => shape("line", { class: "grid", x1: 0, x2: series.length, y1: y, y2: y })),
      ...names.map((name) => shape("path", { class: `k${this.color(name)}`, d: paths.get(name) })));
    const minutes = (series.length * series.step) / 60;
    [top ? unit(top) : "", top ? unit(top / 2) : "", "0"].forEach((text, at) => { this.axis[at].textContent = text; });
    (minutes >= 60 ? [`${minutes / 60} h ago`, `${minutes / 120} h`, "now"] : [`${minutes} min ago`, `${minutes / 2} min`, "now"])
      .forEach((text, at) => { this.times[at].textContent = text; });
    if (this.at === undefined || this.at < 0) {
      this.legend.replaceChildren(...(names.length ? names.map((name) => this.entry(name, kind.unit ? kind.unit(totals.get(name)) : amount(totals.get(name)))) : [el("span", {}, "nothing yet")]));
    } else {
      const x = this.at + 0.43;
      this.svg.append(shape("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: 100 }));
      const column = columns.get(this.at) || [];
      this.legend.replaceChildren(el("span", {}, SECONDS.format(new Date((first + this.at) * series.step * 1000))),
        ...(column.length ? column.map(([name, value]) => this.entry(name, unit(value) + (kind.rate ? "/s" : ""))) : [el("span", {}, "none")]));
    }
  }

  entry(name, value) {
    return el("span", {}, el("i", { class: `k${this.color(name)}` }), (this.kind.names || {})[name] || name, el("b", {}, value));
  }
}

// Live: the rest

const plots = PLOTS.map((kind) => new Plot(kind));
$("plots").append(...plots.map((plot) => plot.element));
let step = "1";
let servers = [];
let liveTimer;

async function loadLive() {
  clearTimeout(liveTimer);
  try {
    const data = await ask(`/api/live?step=${step}`);
    servers = data.servers;
    showLive(data);
  } catch { /* the lamp tells */ }
  if (!$("live").hidden && !document.hidden) liveTimer = setTimeout(loadLive, 2000);
}

function sum(totals, name, accept = () => true) {
  let all = 0;
  for (const [key, value] of Object.entries(totals)) {
    const labels = key.startsWith(`${name}{`) ? key.slice(name.length) : key === name ? "" : null;
    if (labels !== null && accept(labels)) all += value;
  }
  return all;
}

function recent(series, kind, seconds) {
  let all = 0;
  for (const { number, counts } of series.intervals) {
    // The current interval isn't over yet.
    if (number < series.end && number >= series.end - Math.max(1, seconds / series.step)) all += counts[kind] || 0;
  }
  return all / Math.max(seconds, series.step);
}

function showLive(data) {
  const { totals, series } = data;
  $("servers").replaceChildren(...data.servers.map((server) => el("span", { class: "server" },
    el("span", { class: `lamp ${server.ready ? "on" : "off"}` }), server.address, server.ready ? "" : " not accepting")),
    el("span", { class: "soft" }, `counting for ${duration(data.time - data.began)}`));
  const accepted = sum(totals, "smtp_messages_total", (labels) => labels.includes('code="2'));
  const refused = sum(totals, "smtp_messages_total") - accepted;
  const errors = sum(totals, "smtp_errors_total");
  const failures = sum(totals, "smtp_auth_total", (labels) => labels.includes('outcome="failure"'));
  const tiles = [
    ["open now", NUMBER.format(data.open)],
    ["messages/s", amount(recent(series, "messages", 5))],
    ["octets/s", size(recent(series, "bytes", 5))],
    ["connections", amount(sum(totals, "smtp_connections_total"))],
    ["accepted", amount(accepted)],
    ["refused", amount(refused), refused > 0],
    ["refused commands", amount(sum(totals, "smtp_refused_total"))],
    ["received", size(sum(totals, "smtp_received_bytes_total"))],
    ["errors", amount(errors), errors > 0],
    ["AUTH failures", amount(failures), failures > 0],
  ];
  $("tiles").replaceChildren(...tiles.map(([label, value, bad]) => el("div", { class: bad ? "tile bad" : "tile" },
    el("div", { class: "value" }, value), el("div", { class: "label" }, label))));
  for (const plot of plots) plot.show(series);
  $("open-count").textContent = data.open ? NUMBER.format(data.open) : "";
  $("connections").replaceChildren(table(["Client", "Says it is", "TLS", "User", "Messages", "Open for"],
    data.connections.map((each) => [
      `${each.client_hostname.startsWith("[") ? "" : `${each.client_hostname} `}${each.remote_address}:${each.remote_port}`,
      each.host_name_appears_as || "", each.tls || "no",
      each.user ?? (each.authenticated ? "yes" : ""),
      el("td", { class: "num" }, NUMBER.format(each.messages)),
      el("td", { class: "num" }, duration(data.time - each.since))]), "Nobody is connected."));
  $("clients").replaceChildren(table(["Address", "Messages", "Octets", "Connections"],
    data.clients.map((each) => [each.address || "local", ...[NUMBER.format(each.messages), size(each.bytes), NUMBER.format(each.connections)].map((value) => el("td", { class: "num" }, value))]),
    "Nobody yet."));
}

// Live: events

const events = [];
let lastEvent;
let paused = false;

function describe(event) {
  switch (event.signal) {
    case "connect": return `${event.client_hostname} ${event.remote_address}:${event.remote_port} says it is ${event.host_name_appears_as || "nobody"}`;
    case "secure": return `${event.protocol} ${event.cipher}${event.servername ? ` for ${event.servername}` : ""}`;
    case "auth": return `${event.method} ${event.success ? "succeeded" : "failed"}${event.username === null ? "" : ` for ${event.username}`}`;
    case "message": {
      const more = event.recipients ? ` and ${event.recipients - event.rcpt_to.length} more` : "";
      return `${event.code} <${event.mail_from}> → ${event.rcpt_to.map((address) => `<${address}>`).join(" ")}${more}, ${size(event.size)}, ${(event.seconds * 1000).toFixed(1)} ms: ${event.reply}`;
    }
    case "refused": return `${event.remote_address || "local"} ${event.code} ${event.reply}${event.command ? `: ${event.command} ${event.argument}` : ""}`;
    case "error": return `${event.code}: ${event.error.type} ${event.error.message}${event.remote_address ? `, ${event.remote_address}` : ""}${Object.entries(event.meta || {}).map(([name, value]) => `, ${name} ${value}`).join("")}`;
    case "disconnect": return `${event.remote_address} ${event.reason} after ${event.seconds.toFixed(event.seconds < 10 ? 2 : 0)} s, ${plural(event.messages, "message")}, ${size(event.bytes_in)} in, ${size(event.bytes_out)} out${event.detail ? `: ${event.detail}` : ""}`;
    default: return event.address || "";
  }
}

function showEvents() {
  if ($("live").hidden || paused) return;
  const wanted = $("event-filter").value;
  const shown = events.filter((event) => !wanted || event.signal === wanted).slice(-200).reverse();
  $("events").replaceChildren(...(shown.length ? shown.map(eventRow) : [el("li", { class: "none" }, "Nothing has happened yet.")]));
}

function eventRow(event) {
  if (!event.row) {
    const bad = (event.signal === "auth" && !event.success) || (event.signal === "message" && event.code >= 400);
    event.row = el("li", {},
      el("time", {}, SECONDS.format(new Date(event.time * 1000))),
      el("span", { class: `kind is-${bad ? "failed" : event.signal}` }, event.signal),
      el("span", { class: "what", title: event.id ? `session ${event.id}` : null }, describe(event)));
  }
  return event.row;
}

// Server-sent events. A browser opens few connections to one host, so a page that nobody looks
// at closes its own and asks now and then instead.

let source;
let asking;
let eventsTimer;
let listTimer;
let stale = false;

function connect() {
  source?.close();
  source = new EventSource(`/api/events${lastEvent === undefined ? "" : `?since=${lastEvent}`}`);
  source.onopen = () => lamp("on", "connected");
  source.onerror = () => {
    lamp("off", "the server doesn't answer");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!document.hidden) connect(); }, 3000);
  };
  source.addEventListener("smtp", (message) => {
    const event = JSON.parse(message.data);
    lastEvent = event.number;
    events.push(event);
    if (events.length > 1000) events.splice(0, 500);
    if (event.signal === "message") blink();
    eventsTimer ??= setTimeout(() => { eventsTimer = undefined; showEvents(); }, 100);
  });
  source.addEventListener("inbox", (message) => {
    showCounts(JSON.parse(message.data));
    stale = true;
    listTimer ??= setTimeout(freshen, 200);
  });
}

/** Load the list, one after the other however often it changes. */
async function freshen() {
  stale = false;
  await loadList();
  listTimer = stale ? setTimeout(freshen, 200) : undefined;
}

function lamp(state, title) {
  $("lamp").className = `lamp ${state}`;
  $("lamp").title = title;
  $("offline").hidden = state !== "off";
}

function blink() {
  $("lamp").classList.remove("blink");
  void $("lamp").offsetWidth; // start the animation anew
  $("lamp").classList.add("blink");
}

/** Tell of mail that came while nobody looked, if the reader wants to be told. */
function tell({ messages: [message] }) {
  if (!message || choice.get("tell") !== "yes" || !("Notification" in window) || Notification.permission !== "granted") return;
  if (hiddenAt && message.unread && message.time > hiddenAt) {
    hiddenAt = message.time;
    try {
      const notice = new Notification(message.subject || "(no subject)", { body: message.from, icon: "/static/icon.svg", tag: "smtp_blinker" });
      notice.onclick = () => { window.focus(); go(`#/m/${encodeURIComponent(message.id)}`); notice.close(); };
    } catch { /* phones want a service worker for it */ }
  }
}

let hiddenAt;
document.addEventListener("visibilitychange", () => {
  clearInterval(asking);
  if (document.hidden) {
    source?.close();
    hiddenAt = Date.now() / 1000;
    if (HAS_INBOX) asking = setInterval(() => ask("/api/messages?limit=1&within=0.2").then((answer) => { showCounts(answer); tell(answer); }, () => {}), 5000);
  } else {
    connect();
    route();
  }
});

// Where we are

function current(link, isIt) {
  if (isIt) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

function route() {
  const hash = location.hash || "#/";
  const live = !HAS_INBOX || hash === "#/live";
  $("live").hidden = !live;
  current($("nav-live"), live);
  if (HAS_INBOX) {
    $("inbox").hidden = live;
    current($("nav-inbox"), !live);
  }
  if (live) { loadLive(); showEvents(); return; }
  const match = /^#\/m\/(.+)$/.exec(hash);
  let id = null;
  try { id = match && decodeURIComponent(match[1]); } catch { /* not one of ours */ }
  if (id) openMessage(id);
  else if (opened) closeMessage();
}

// Keys

function go(hash) { location.hash = hash; }

const KEYS = {
  j: () => move(1), k: () => move(-1),
  u: () => go("#/"), Escape: () => { if (opened) go("#/"); },
  Delete: deleteOpened, "#": deleteOpened, m: unread,
  n: () => turnPage(1), p: () => turnPage(-1),
  i: () => go("#/"), l: () => go("#/live"),
  "/": () => { go("#/"); $("search").focus(); $("search").select(); },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = event.target;
  if (target.matches("input, select, textarea")) {
    if (target === $("search") && event.key === "Escape") { search(""); target.blur(); }
    else if (target === $("search") && (event.key === "Enter" || event.key === "ArrowDown")) { event.preventDefault(); clearTimeout(searchTimer); if (target.value.trim() !== inbox.query) search(target.value); $("list").querySelector("a")?.focus(); }
    return;
  }
  if (event.key === "?") { event.preventDefault(); $("help").showModal(); return; }
  const onLive = !$("live").hidden;
  if (!HAS_INBOX || (onLive && !["i", "l", "/"].includes(event.key))) return;
  if (/^[1-7]$/.test(event.key) && opened?.data) {
    const tab = $(`tab-${TABS[event.key - 1]}`);
    if (tab) { event.preventDefault(); tab.click(); }
    return;
  }
  const action = KEYS[event.key];
  if (action) { event.preventDefault(); action(); }
});

// Begin

let searchTimer;
$("help-button").addEventListener("click", () => $("help").showModal());
$("theme").value = choice.get("theme");
$("theme").addEventListener("change", () => { choice.set("theme", $("theme").value); showTheme($("theme").value); });
if (HAS_INBOX) {
  $("tell").checked = choice.get("tell") === "yes" && "Notification" in window && Notification.permission === "granted";
  $("tell").addEventListener("change", async () => {
    const allowed = $("tell").checked && "Notification" in window && await Notification.requestPermission() === "granted";
    if ($("tell").checked && !allowed) say("The browser doesn't allow it.");
    $("tell").checked = allowed;
    choice.set("tell", allowed ? "yes" : "");
  });
}
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}
for (const button of document.querySelectorAll("[data-step]")) {
  button.addEventListener("click", () => {
    step = button.dataset.step;
    for (const other of document.querySelectorAll("[data-step]")) other.setAttribute("aria-pressed", other === button);
    loadLive();
  });
}
$("event-filter").addEventListener("change", showEvents);
$("event-pause").addEventListener("click", () => {
  paused = !paused;
  $("event-pause").setAttribute("aria-pressed", paused);
  $("event-pause").textContent = paused ? "Go on" : "Pause";
  showEvents();
});
if (HAS_INBOX) {
  $("search").addEventListener("input", () => {
    clearTimeout(searchTimer);
    if (!$("live").hidden) go("#/");
    searchTimer = setTimeout(() => search($("search").value), 150);
  });
  $("newer").addEventListener("click", () => turnPage(-1));
  $("older").addEventListener("click", () => turnPage(1));
  $("delete-all").addEventListener("click", deleteAll);
  $("see-all").addEventListener("click", seeAll);
  loadLive().finally(loadList); // the empty inbox says where to send mail
}
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
addEventListener("hashchange", route);
route();
connect();
