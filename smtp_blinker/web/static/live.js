// The Live view: connections and counts

import { $, el, table } from "./dom.js";
import { PLOTS, Plot } from "./plots.js";
import { ask } from "./server.js";
import { state } from "./state.js";
import { NUMBER, amount, duration, size } from "./words.js";

const plots = PLOTS.map((kind) => new Plot(kind));
$("plots").append(...plots.map((plot) => plot.element));
let step = "1";
let liveTimer;
let turn = 0;

export async function loadLive() {
  clearTimeout(liveTimer);
  const mine = ++turn;
  let data;
  try { data = await ask(`api/live?step=${step}`); } catch { /* the lamp shows it */ }
  if (mine !== turn) return; // a newer request has replaced this one
  if (data) {
    state.servers = data.servers;
    showLive(data);
  }
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

/** The counts of several intervals as one: a bar of a second is too thin to see. */
function inBuckets(series, size) {
  const buckets = new Map();
  const end = Math.floor(series.end / size);
  const length = series.length / size;
  for (const { number, counts } of series.intervals) {
    const bucket = Math.floor(number / size);
    if (bucket <= end - length) continue; // it began before the data does
    if (!buckets.has(bucket)) buckets.set(bucket, {});
    const sums = buckets.get(bucket);
    for (const [name, count] of Object.entries(counts)) sums[name] = (sums[name] || 0) + count;
  }
  return { step: series.step * size, length, end, intervals: [...buckets].map(([number, counts]) => ({ number, counts })) };
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
  for (const plot of plots) plot.show(series.step === 1 ? inBuckets(series, 5) : series);
  $("open-count").textContent = data.open ? NUMBER.format(data.open) : "";
  $("connections").replaceChildren(table(["Client", "HELO name", "TLS", "User", "Messages", "Open for"],
    data.connections.map((each) => [
      `${each.client_hostname.startsWith("[") ? "" : `${each.client_hostname} `}${each.remote_address}:${each.remote_port}`,
      each.host_name_appears_as || "", each.tls || "no",
      each.user ?? (each.authenticated ? "yes" : ""),
      el("td", { class: "num" }, NUMBER.format(each.messages)),
      el("td", { class: "num" }, duration(data.time - each.since))]), "No client is connected."));
  $("clients").replaceChildren(table(["Address", "Messages", "Octets", "Connections"],
    data.clients.map((each) => [each.address || "local", ...[NUMBER.format(each.messages), size(each.bytes), NUMBER.format(each.connections)].map((value) => el("td", { class: "num" }, value))]),
    "No client so far."));
  showStores(data.stores, data.spools);
}

function showStores(stores, spools) {
  $("stores-card").hidden = !stores.length && !spools.length;
  $("stores").replaceChildren(table(["Store", "Messages", "Is"], [
    ...stores.map((each) => [each.store,
      `${amount(each.accepted)} accepted, ${amount(each.refused)} refused, ${amount(each.failed)} failed`
        + (each.seconds_count ? `; ${amount(1000 * each.seconds_sum / each.seconds_count)} ms each` : ""),
      each.away ? "away" : "there"]),
    ...spools.map((each) => [each.spool, `${amount(each.messages)} waiting, ${size(each.bytes)}`,
      each.messages ? `the oldest waits for ${duration(each.seconds)}` : "empty"]),
  ]));
}

export function chooseStep(chosen) {
  step = chosen;
  loadLive();
}
