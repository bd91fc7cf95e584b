// The views of a message

import { copyButton } from "./copy.js";
import { el, emptyBox, linked, table, toggle } from "./dom.js";
import { failed, messagePath } from "./server.js";
import { choice, isDark } from "./settings.js";
import { STAMP, size } from "./words.js";

export const partPath = (data, part) => messagePath(data.id, `/parts/${part.number}`);

/** Widths of common screens; a narrower window shows its own width. */
const WIDTHS = { phone: "Phone", tablet: "Tablet", full: "Full width" };

function widths(stage) {
  const buttons = Object.entries(WIDTHS).map(([name, label]) => el("button", { type: "button", id: `width-${name}`, onclick: () => show(name) }, label));
  function show(chosen) {
    Object.keys(WIDTHS).forEach((name, at) => {
      stage.classList.toggle(name, name === chosen);
      buttons[at].setAttribute("aria-pressed", name === chosen);
    });
    choice.set("width", chosen);
  }
  show(Object.hasOwn(WIDTHS, choice.get("width")) ? choice.get("width") : "full");
  return el("div", { class: "switch wide-only", role: "group", "aria-label": "Width" }, ...buttons);
}

export function showHtml(body, data) {
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
    widths(stage),
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

const ENCRYPTED = new Set(["multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"]);

export function showText(body, data) {
  if (!data.text) {
    const encrypted = data.parts.some((part) => ENCRYPTED.has(part.content_type));
    body.append(encrypted ? emptyBox("Encrypted", "Only its recipients can read it. Its attachments are what was sent.")
      : emptyBox("No text", "The message has nothing to read in it."));
    return;
  }
  const fixed = choice.get("fixed") === "yes";
  const text = el("pre", { class: fixed ? "text" : "text reading" }, ...linked(data.text));
  body.append(el("div", { class: "strip" },
    toggle("Fixed width", fixed, (on) => { text.classList.toggle("reading", !on); choice.set("fixed", on ? "yes" : ""); }),
    copyButton(data.text, "the text", "Copy"),
    data.text_from_html ? "The message has no text part; this is what its HTML says." : null), text);
}

/** *text* in the page's format for dates, or unchanged if it isn't a date. */
function moment(date) {
  const at = Date.parse(date);
  return Number.isNaN(at) ? date : STAMP.format(new Date(at));
}

const LONG = 240;

function headerRow([name, value]) {
  const shown = el("div", { class: "value", dir: "auto" }, value);
  let more = null;
  if (value.length > LONG) {
    shown.replaceChildren(`${value.slice(0, LONG)} … `);
    more = el("button", { type: "button", class: "more", onclick: () => { shown.replaceChildren(value); more.remove(); } }, "all");
  }
  return el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "wrap" }, el("div", { class: "copied-row" }, el("div", {}, shown, more), copyButton(value, name))));
}

/** The fields in their order. Of a run of more than four with one name, two are shown and a button has the rest. */
function headerTable(headers) {
  const body = el("tbody");
  for (let at = 0; at < headers.length;) {
    let end = at;
    while (end < headers.length && headers[end][0] === headers[at][0]) end += 1;
    const run = headers.slice(at, end);
    const kept = run.length > 4 ? 2 : run.length;
    body.append(...run.slice(0, kept).map(headerRow));
    if (run.length > kept) {
      const row = el("tr", {}, el("th", { scope: "row" }, run[0][0]), el("td", {},
        el("button", { type: "button", class: "more", onclick: () => row.replaceWith(...run.slice(kept).map(headerRow)) }, `${run.length - kept} more`)));
      body.append(row);
    }
    at = end;
  }
  return el("table", { class: "headers" }, body);
}

export function showHeaders(body, data) {
  const { envelope, session } = data;
  const envelopeRows = [["Mail from", envelope.mail_from === null ? "not recorded" : `<${envelope.mail_from}>`]];
  for (const address of envelope.rcpt_to.slice(0, 200)) envelopeRows.push(["Rcpt to", `<${address}>`]);
  if (envelope.rcpt_to.length > 200) envelopeRows.push(["", `and ${envelope.rcpt_to.length - 200} more`]);
  const names = { address: "Client", hostname: "Reverse DNS", helo: "HELO name", by: "Received by", protocol: "Protocol", tls: "TLS", cipher: "Cipher", id: "Id", date: "Date" };
  const sessionRows = session ? Object.entries(names).filter(([name]) => session[name]).map(([name, label]) => [label, name === "date" ? moment(session[name]) : session[name]]) : [];
  body.append(el("div", { class: "pad two" },
    el("section", { class: "card" }, el("h2", {}, "Header fields", el("span", { class: "spacer" }), copyButton(() => data.headers.map(([name, value]) => `${name}: ${value}`).join("\n"), "the header fields", "Copy")), headerTable(data.headers)),
    el("div", { class: "pad-side" },
      el("section", { class: "card" }, el("h2", {}, "SMTP envelope"), table(null, envelopeRows)),
      el("section", { class: "card" }, el("h2", {}, "Session"), table(null, sessionRows, "Not recorded in this file.")))));
}

export function showParts(body, data) {
  const rows = data.parts.map((part) => [
    el("td", {}, el("span", { class: `depth${Math.min(part.depth, 4)}` }, part.content_type)),
    [part.filename || (part.content_id ? `cid:${part.content_id}` : ""), ...part.contains].filter(Boolean).join(", "),
    [part.charset, part.encoding].filter(Boolean).join(", "),
    el("td", { class: "num" }, size(part.size)),
    part.multipart ? "" : el("td", { class: "num" },
      part.readable ? el("a", { href: `${partPath(data, part)}?inline`, target: "_blank", rel: "noopener noreferrer" }, "Read") : null,
      part.readable ? " " : null, el("a", { href: partPath(data, part), download: true }, "Download")),
  ]);
  body.append(el("div", { class: "pad" }, el("section", { class: "card" }, el("div", { class: "scroll tall" },
    table(["Type", "Name", "Encoding", "Size", "Content"], rows)))));
}

export function showLinks(body, data) {
  if (!data.links.length) { body.append(emptyBox("No links", "The message has no links.")); return; }
  body.append(el("div", { class: "pad" }, el("section", { class: "card" }, el("ul", { class: "links" },
    ...data.links.map((link) => el("li", { class: "copied-row" }, el("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, link), copyButton(link, "the link")))))));
}

export function showChecks(body, data) {
  if (!data.checks.length) { body.append(emptyBox("No problems found", "That doesn’t prove that every mail program shows it well.")); return; }
  body.append(el("div", { class: "pad" },
    el("section", { class: "card" }, el("ul", { class: "links" }, ...data.checks.map((text) => el("li", {}, text)))),
    el("p", { class: "soft" }, "What standards forbid, and what is known to cause trouble in mail programs.")));
}

export async function showSource(body, data) {
  const place = el("div");
  body.append(place);
  let text;
  try {
    const response = await fetch(messagePath(data.id, "/source"));
    if (!response.ok) throw new Error(response.status);
    text = await response.text();
  } catch (error) { failed(error); return; }
  if (!place.isConnected) return; // another view is shown, or this one again
  place.replaceWith(
    el("div", { class: "strip" }, copyButton(text, "the source", "Copy"),
      data.size > text.length && data.size > 2 ** 20 ? "The first mebibyte. Download has all of it." : null),
    el("pre", { class: "text", id: "source" }, text));
}
