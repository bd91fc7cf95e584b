// The views of a message

import { el, emptyBox, linked, table, toggle } from "./dom.js";
import { failed, messagePath } from "./server.js";
import { choice, isDark } from "./settings.js";
import { size } from "./words.js";

export const partPath = (data, part) => messagePath(data.id, `/parts/${part.number}`);

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

export function showText(body, data) {
  if (!data.text) { body.append(emptyBox("No text", "The message has nothing to read in it.")); return; }
  const fixed = choice.get("fixed") === "yes";
  const text = el("pre", { class: fixed ? "text" : "text reading" }, ...linked(data.text));
  body.append(el("div", { class: "strip" },
    toggle("Fixed width", fixed, (on) => { text.classList.toggle("reading", !on); choice.set("fixed", on ? "yes" : ""); }),
    data.text_from_html ? "The message has no text part; this is what its HTML says." : null), text);
}

export function showHeaders(body, data) {
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
    table(["Type", "Name", "Encoding", "Size", ""], rows)))));
}

export function showLinks(body, data) {
  if (!data.links.length) { body.append(emptyBox("No links", "The message links to nothing.")); return; }
  body.append(el("div", { class: "pad" }, el("section", { class: "card" }, el("ul", { class: "links" },
    ...data.links.map((link) => el("li", {}, el("a", { href: link, target: "_blank", rel: "noopener noreferrer" }, link)))))));
}

export function showChecks(body, data) {
  if (!data.checks.length) { body.append(emptyBox("Nothing was found wrong", "Which isn’t to say that every reader will like it.")); return; }
  body.append(el("div", { class: "pad" },
    el("section", { class: "card" }, el("ul", { class: "links" }, ...data.checks.map((text) => el("li", {}, text)))),
    el("p", { class: "soft" }, "What standards forbid, and what readers are known to suffer from.")));
}

export async function showSource(body, data) {
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
