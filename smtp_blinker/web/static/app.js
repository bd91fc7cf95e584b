// The page: which view is shown, keys, and what runs at the start. Each view has its own module.

import { $, HAS_INBOX, giveFocus, go, onGo } from "./dom.js";
import { showEvents, togglePause } from "./events.js";
import { deleteAll, listLoaded, loadList, move, search, seeAll, turnPage } from "./list.js";
import { chooseStep, loadLive } from "./live.js";
import { TABS, closeMessage, deleteOpened, openMessage, unread } from "./message.js";
import { showFaults } from "./faults.js";
import { showRefused } from "./refused.js";
import { clearChosen, chosen, toggleChosen } from "./selection.js";
import { INBOX, say } from "./server.js";
import { choice, showDensity, showTheme } from "./settings.js";
import { inbox, openedId, state } from "./state.js";
import { connect, rest, wake } from "./stream.js";
import { askForTag } from "./tags.js";
import { undo } from "./undo.js";
import { ZONE } from "./words.js";

// Which view is shown

function current(link, isCurrent) {
  if (isCurrent) {
    link.setAttribute("aria-current", "page");
    link.scrollIntoView({ block: "nearest", inline: "nearest" });
  } else link.removeAttribute("aria-current");
}

let routed; // the address that is shown

function route() {
  routed = location.hash;
  const hash = routed || "#/";
  const refused = /^#\/refused(?:\/(\w+))?$/.exec(hash);
  const faults = hash === "#/faults" && $("nav-faults") !== null;
  const live = !refused && !faults && (!HAS_INBOX || hash === "#/live");
  $("live").hidden = !live;
  current($("nav-live"), live);
  $("refused").hidden = !refused;
  current($("nav-refused"), Boolean(refused));
  $("faults").hidden = !faults;
  if ($("nav-faults")) current($("nav-faults"), faults);
  if (HAS_INBOX) {
    $("inbox").hidden = live || faults || Boolean(refused);
    current($("nav-inbox"), !$("inbox").hidden);
  }
  if (faults) { showFaults(); return; }
  if (refused) { showRefused(refused[1]); return; }
  if (live) { loadLive(); showEvents(); return; }
  const id = openedId();
  if (id) openMessage(id);
  else if (state.opened) closeMessage();
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) { rest(); return; }
  wake();
  route();
});

// Keys

const deleteThese = () => (chosen.size ? deleteAll() : deleteOpened());

const KEYS = {
  j: () => move(1), k: () => move(-1),
  u: () => go("#/"), Escape: () => { if (chosen.size) clearChosen(); else if (state.opened) go("#/"); },
  Delete: deleteThese, "#": deleteThese, m: unread, x: toggleChosen, t: askForTag, z: undo,
  n: () => turnPage(1), p: () => turnPage(-1),
  i: () => go("#/"), l: () => go("#/live"), r: () => go("#/refused"),
  "/": () => { go("#/"); $("search").focus(); $("search").select(); },
};

/** Search now, and move the focus to the first message that is found. */
async function showFound() {
  clearTimeout(searchTimer);
  const query = $("search").value;
  $("search").blur();
  await (query.trim() === inbox.query ? listLoaded() : search(query));
  if (document.activeElement === document.body) giveFocus($("list").querySelector("a"));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const target = event.target;
  if (target.matches("input:not(.choose), select, textarea")) {
    if (target === $("search") && event.key === "Escape") { search(""); target.blur(); }
    else if (target === $("search") && (event.key === "Enter" || event.key === "ArrowDown")) { event.preventDefault(); showFound(); }
    return;
  }
  if (event.key === "?") { event.preventDefault(); $("help").showModal(); return; }
  const always = HAS_INBOX ? ["i", "l", "r", "/"] : ["l", "r"];
  if ((!HAS_INBOX || $("inbox").hidden) && !always.includes(event.key)) return;
  if (/^[1-7]$/.test(event.key) && state.opened?.data) {
    const tab = $(`tab-${TABS[event.key - 1]}`);
    if (tab) { event.preventDefault(); tab.click(); }
    return;
  }
  const action = KEYS[event.key];
  if (action) { event.preventDefault(); action(); }
});

// Start

showTheme(choice.get("theme"));
showDensity(choice.get("density"));

let searchTimer;
$("zone").textContent = ZONE;
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
    for (const other of document.querySelectorAll("[data-step]")) other.setAttribute("aria-pressed", other === button);
    chooseStep(button.dataset.step);
  });
}
$("event-filter").addEventListener("change", showEvents);
$("event-pause").addEventListener("click", () => {
  const paused = togglePause();
  $("event-pause").setAttribute("aria-pressed", paused);
  $("event-pause").textContent = paused ? "Resume" : "Pause";
});
if ($("which-inbox")) {
  $("which-inbox").value = INBOX;
  $("which-inbox").addEventListener("change", () => {
    const name = $("which-inbox").value;
    location.assign(name ? `?${new URLSearchParams({ inbox: name })}` : location.pathname);
  });
}
if (HAS_INBOX) {
  $("search").value = inbox.query;
  $("search").addEventListener("input", () => {
    clearTimeout(searchTimer);
    if ($("inbox").hidden) go("#/");
    searchTimer = setTimeout(() => search($("search").value), 150);
  });
  $("newer").addEventListener("click", () => turnPage(-1));
  $("older").addEventListener("click", () => turnPage(1));
  $("delete-all").addEventListener("click", deleteAll);
  $("see-all").addEventListener("click", seeAll);
  $("density").addEventListener("click", () => {
    const density = choice.get("density") === "compact" ? "" : "compact";
    choice.set("density", density);
    showDensity(density);
  });
  $("tag-chosen").addEventListener("click", askForTag);
  loadLive().finally(loadList); // the empty inbox shows where to send mail
}
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
const follow = () => { if (location.hash !== routed) route(); };
onGo(follow);
addEventListener("hashchange", follow);
route();
connect();
