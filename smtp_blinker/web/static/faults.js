// Faults on demand, for testing programs that send mail

import { $, el, table } from "./dom.js";
import { ask, failed } from "./server.js";

const KINDS = {
  refuse: ["at", "sender", "recipient", "code", "text", "chance", "times"],
  delay: ["seconds", "at", "sender", "recipient", "chance", "times"],
  drop: ["at", "sender", "recipient", "chance", "times"],
};
const HINTS = {
  sender: "ann@example.com or @example.com", recipient: "ann@example.com or @example.com", code: "550",
  text: "Refused by the test", seconds: "5", chance: "1, or 0.5 for half of them", times: "no limit",
};

const fields = {};
let list;
let turn = 0;

export async function showFaults() {
  const mine = ++turn;
  let answer;
  try { answer = await ask("api/faults"); } catch (error) { failed(error); return; }
  if (mine !== turn) return;
  if (!list) build(answer.stages);
  list.replaceChildren(table(["What", "At", "Addresses", "How often", "Change"], answer.faults.map(row), "No faults: the server accepts mail."));
}

function row(fault) {
  const what = { refuse: `refuse: ${fault.code} ${fault.text}`, delay: `delay: ${fault.seconds} s`, drop: "drop the connection" }[fault.do];
  const addresses = [fault.sender && `from ${fault.sender}`, fault.recipient && `to ${fault.recipient}`].filter(Boolean).join(", ") || "any";
  const often = [fault.chance < 1 && `with probability ${fault.chance}`, fault.times !== null && `${fault.times} more`].filter(Boolean).join(", ") || "always";
  const remove = el("button", { type: "button", "aria-label": `Remove: ${what}`, onclick: () => change(`api/faults/${fault.id}`, "DELETE") }, "Remove");
  return [what, fault.at.join(", "), addresses, often, el("td", { class: "num" }, remove)];
}

async function change(path, method) {
  try { await ask(path, method); } catch (error) { if (error.status !== 404) failed(error); }
  showFaults();
}

function build(stages) {
  const kind = el("select", { id: "fault-do", onchange: () => choose(kind.value) }, ...Object.keys(KINDS).map((name) => el("option", {}, name)));
  fields.at = el("select", {}, el("option", { value: "" }, "as usual"), ...stages.map((stage) => el("option", {}, stage)));
  for (const [name, hint] of Object.entries(HINTS)) fields[name] = el("input", { placeholder: hint, autocomplete: "off" });
  for (const [name, field] of Object.entries(fields)) field.id = `fault-${name}`;
  const add = el("button", { type: "button", id: "fault-add", onclick: () => addFault(kind.value) }, "Add");
  const clear = el("button", { type: "button", id: "faults-clear", onclick: () => change("api/faults", "DELETE") }, "Remove all");
  list = el("div", { class: "scroll", id: "fault-list" });
  const labelled = Object.entries(fields).map(([name, field]) => el("label", { "data-field": name }, name, field));
  $("faults").replaceChildren(
    el("section", { class: "card" }, el("h2", {}, "Faults", el("span", { class: "spacer" }), clear), list),
    el("section", { class: "card" }, el("h2", {}, "Add one"), el("div", { class: "pad fields" }, el("label", {}, "do", kind), ...labelled, add)));
  choose(kind.value);
}

function choose(kind) {
  for (const label of $("faults").querySelectorAll("[data-field]")) label.hidden = !KINDS[kind].includes(label.dataset.field);
}

function addFault(kind) {
  const words = KINDS[kind].map((name) => [name, fields[name].value.trim()]).filter(([, value]) => value);
  change(`api/faults?${new URLSearchParams([["do", kind], ...words])}`, "POST");
}
