// Server-sent events. A browser opens few connections to one host, so a hidden page closes its
// stream and polls instead.

import { $, HAS_INBOX, go } from "./dom.js";
import { keep } from "./events.js";
import { loadList, showCounts } from "./list.js";
import { freshenRefused } from "./refused.js";
import { INBOX, MESSAGES, ask } from "./server.js";
import { choice } from "./settings.js";

/** Events of each signal that the server sends at a time, a few times a second: a page can't show more. */
const NEWEST = 50;

let source;
let asking;
let lastEvent;
let hiddenAt;
let listTimer;
let stale = false;

export function connect() {
  source?.close();
  const words = [["newest", NEWEST], ["inbox", INBOX], ["since", lastEvent ?? ""]].filter(([, value]) => value !== "");
  source = new EventSource(`api/events?${new URLSearchParams(words)}`);
  source.onopen = () => lamp("on", "connected");
  source.onerror = () => {
    lamp("off", "the server doesn't answer");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => { if (!document.hidden) connect(); }, 3000);
  };
  source.addEventListener("smtp", (message) => {
    const event = JSON.parse(message.data);
    lastEvent = event.number;
    keep(event);
    if (event.signal === "message") blink();
    if (["refused", "message", "disconnect"].includes(event.signal)) freshenRefused();
  });
  source.addEventListener("inbox", (message) => {
    showCounts(JSON.parse(message.data));
    stale = true;
    listTimer ??= setTimeout(freshen, 200);
  });
}

/** Load the list: soon after it changed, and twice a second at most while it goes on changing. */
async function freshen() {
  stale = false;
  await loadList();
  listTimer = setTimeout(() => { if (stale) freshen(); else listTimer = undefined; }, 500);
}

function lamp(state, title) {
  $("lamp").className = `lamp ${state}`;
  $("lamp").title = title;
  $("offline").hidden = state !== "off";
}

function blink() {
  $("lamp").classList.remove("blink");
  void $("lamp").offsetWidth; // restart the animation
  $("lamp").classList.add("blink");
}

/** Show a notification of mail that came while the page was hidden, if the reader wants them. */
function tell({ messages: [message] }) {
  if (!message || choice.get("tell") !== "yes" || !("Notification" in window) || Notification.permission !== "granted") return;
  if (hiddenAt && message.unread && message.time > hiddenAt) {
    hiddenAt = message.time;
    try {
      const notice = new Notification(message.subject || "(no subject)", { body: message.from, icon: "static/icon.svg", tag: "smtp_blinker" });
      notice.onclick = () => { window.focus(); go(`#/m/${encodeURIComponent(message.id)}`); notice.close(); };
    } catch { /* on phones this needs a service worker */ }
  }
}

/** Poll instead of listening while the page is hidden. */
export function rest() {
  source?.close();
  hiddenAt = Date.now() / 1000;
  if (HAS_INBOX) asking = setInterval(() => ask(`${MESSAGES}?limit=1&within=0.2`).then((answer) => { showCounts(answer); tell(answer); }, () => {}), 5000);
}

export function wake() {
  clearInterval(asking);
  connect();
}
