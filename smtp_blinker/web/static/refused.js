// What was refused, why, and the dialogue of the connection

import { $, el, emptyBox, table } from "./dom.js";
import { ask, failed } from "./server.js";
import { SECONDS, plural } from "./words.js";

let shown; // the connection on display, undefined for the list
let text; // what is on display, as the server sent it
let turn = 0;
let timer;

/** Show the list, or the connection with that id. */
export function showRefused(id) {
  if (id !== shown) show("");
  shown = id;
  load();
}

/** Load it again soon, if it is on display. */
export function freshenRefused() {
  if ($("refused").hidden || document.hidden) return;
  timer ??= setTimeout(() => { timer = undefined; if (!$("refused").hidden) load(); }, 300);
}

async function load() {
  const mine = ++turn;
  const id = shown;
  let answer;
  try {
    answer = await ask(`api/refused${id ? `/${id}` : ""}`);
  } catch (error) {
    if (mine !== turn) return;
    if (error.status === 404) show("", emptyBox("No longer kept", error.message), back());
    else failed(error);
    return;
  }
  if (mine !== turn || JSON.stringify(answer) === text) return;
  show(JSON.stringify(answer), ...(id ? connection(answer) : list(answer)));
}

/** Show *children* instead; the focus and the scrolled place stay where they are. */
function show(answer, ...children) {
  text = answer;
  const focused = document.activeElement?.closest?.("#refused a, #refused button");
  const at = $("refused").querySelector(".scroll")?.scrollTop ?? 0;
  $("refused").replaceChildren(...children);
  const scrolled = $("refused").querySelector(".scroll");
  if (scrolled) scrolled.scrollTop = at;
  if (!focused) return;
  const same = [...$("refused").querySelectorAll("a, button")].find((each) => each.id === focused.id && each.getAttribute("href") === focused.getAttribute("href"));
  same?.focus({ preventScroll: true });
}

const back = () => el("p", {}, el("a", { class: "button", href: "#/refused", id: "refused-back" }, "‹ All that was refused"));
const moment = (seconds) => SECONDS.format(new Date(seconds * 1000));
const client = (talk) => [talk.host_name_appears_as, talk.remote_address || "a UNIX socket"].filter(Boolean).join(", ");
const said = (refusal) => `${refusal.code ?? ""} ${refusal.reply}`.trim();
const what = (refusal) => `${refusal.command} ${refusal.argument}`.trim() || (refusal.code ? "the connection, or a line that isn't a command" : "the connection");

function list({ connections }) {
  if (!connections.length) return [emptyBox("Nothing was refused", "Commands and messages that the server refuses appear here, with the reason and the whole dialogue.")];
  const rows = connections.map((talk) => {
    const last = talk.refusals[talk.refusals.length - 1];
    return [
      moment(talk.time), client(talk),
      el("td", { class: "wrap" }, el("a", { href: `#/refused/${talk.id}` }, said(last))),
      what(last), el("td", { class: "num" }, String(talk.refused)),
    ];
  });
  const clear = el("button", {
    type: "button", id: "refused-clear",
    onclick: () => ask("api/refused", "DELETE").then(load, failed),
  }, "Clear");
  return [el("section", { class: "card" },
    el("h2", {}, "Refused", el("span", { class: "spacer" }), clear),
    el("div", { class: "scroll tall" }, table(["Time", "Client", "Reply", "Command", "Refusals"], rows)))];
}

function connection(talk) {
  const more = talk.refused - talk.refusals.length;
  const refusals = talk.refusals.map((refusal) => el("div", { class: "refusal" },
    el("h3", {}, said(refusal)),
    el("p", { class: "soft" }, `${moment(refusal.time)}, to ${what(refusal)}`),
    el("p", { class: "why" }, refusal.why)));
  const lines = talk.lines.map((line) => el("li", { class: `${line.who || "beside"}${line.who === "server" && /^[45]/.test(line.text) ? " bad" : ""}` },
    el("span", { class: "soft" }, `${line.seconds.toFixed(3)} s`),
    el("span", { class: "who" }, { client: "C", server: "S" }[line.who] || ""),
    el("span", { class: "line" }, line.text)));
  const ended = talk.ended ? `It ended: ${talk.ended}${talk.detail ? `, ${talk.detail}` : ""}.` : "The connection is open.";
  return [back(),
    el("section", { class: "card" }, el("h2", {}, `Why was ${client(talk)} refused?`),
      el("div", { class: "pad" }, ...refusals, more > 0 ? el("p", { class: "soft" }, `and ${plural(more, "more refusal")}`) : null)),
    el("section", { class: "card" }, el("h2", {}, "Dialogue"),
      talk.lines.length ? el("ol", { class: "dialogue", id: "dialogue" }, ...lines) : el("p", { class: "none" }, "Not recorded."),
      el("p", { class: "soft pad" }, ended))];
}
