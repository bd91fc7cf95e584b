// The Live view: events

import { $, el, released } from "./dom.js";
import { SECONDS, plural, size } from "./words.js";

const events = [];
let paused = false;
let eventsTimer;

function describe(event) {
  switch (event.signal) {
    case "connect": return `${event.client_hostname} ${event.remote_address}:${event.remote_port} gives the name ${event.host_name_appears_as || "(no name)"}`;
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

export function showEvents() {
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
      el("span", { class: "what", title: event.id ? `session ${event.id}` : null }, describe(event),
        bad && event.code || event.signal === "refused" ? el("a", { class: "why", href: `#/refused/${event.id}` }, "Why?") : null));
  }
  return event.row;
}

/** Keep an event, and show it soon together with those that come until then. */
export function keep(event) {
  events.push(event);
  if (events.length > 1000) events.splice(0, 500);
  eventsTimer ??= setTimeout(async () => { await released(); eventsTimer = undefined; showEvents(); }, 100);
}

/** Stop the list from changing, or let it go on; returns whether it is stopped. */
export function togglePause() {
  paused = !paused;
  showEvents();
  return paused;
}
