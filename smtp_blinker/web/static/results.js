// The inbox: the results of policies for a message

import { $, el } from "./dom.js";

const MAX_FACTS = 200;

/** Above the tabs: one line with the verdict of each policy, which opens to show all results. */
export function showResults(data) {
  const found = Object.entries(data.results);
  if (!found.length) return;
  const verdicts = found.map(([policy, result]) => `${words(policy)}: ${result.verdict ?? "?"}`).join(" · ");
  const facts = found.flatMap(([policy, result]) => [
    el("dt", {}, words(policy)),
    el("dd", {}, factsOf(result).slice(0, MAX_FACTS).map(([name, value]) => `${name} ${value}`).join("; ")),
  ]);
  $("message").querySelector(".tabs").before(el("details", { id: "results" },
    el("summary", {}, "Policies ", el("span", { class: "soft" }, verdicts)),
    el("dl", { class: "facts" }, ...facts)));
}

function words(name) { return name.replaceAll("_", " "); }

/** *value* as pairs of a dotted name and a text; empty values are left out. */
function factsOf(value, name = "") {
  if (value === null || value === "") return [];
  if (typeof value !== "object") return [[name, String(value)]];
  const items = Array.isArray(value) ? value : [];
  if (items.length && items.every((item) => typeof item !== "object")) return [[name, items.join(", ")]];
  return Object.entries(value).flatMap(([key, item]) => factsOf(item, `${name} ${Array.isArray(value) ? Number(key) + 1 : words(key)}`.trim()));
}
