// Requests to the server, and the dialogs and messages about them

import { $, released } from "./dom.js";

/** The server's answer, as soon as it may be shown. */
export async function ask(path, method = "GET") {
  const response = await fetch(path, { method, headers: { Accept: "application/json" } });
  const answer = await response.json().catch(() => ({}));
  await released();
  if (!response.ok) throw Object.assign(new Error(answer.error || `${response.status}`), { status: response.status });
  return answer;
}

/** The name of the inbox that is shown; "" is the first one. */
export const INBOX = new URLSearchParams(location.search).get("inbox") ?? "";
export const MESSAGES = INBOX ? `api/inboxes/${encodeURIComponent(INBOX)}/messages` : "api/messages";

export const messagePath = (id, rest = "") => `${MESSAGES}/${encodeURIComponent(id)}${rest}`;

let toastTimer;
export function say(text, seconds = 4, ...more) {
  $("toast").replaceChildren(text, ...more);
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, seconds * 1000);
}

export const failed = (error) => say(`That didn't work: ${error.message}`);

/** Ask for a text, with *value* as the default; null when the reader cancels. */
export function asked(question, value) {
  const dialog = $("asking");
  $("asking-text").textContent = question;
  $("asking-value").value = value;
  dialog.showModal();
  return new Promise((resolve) => {
    let answer = null;
    $("asking-yes").onclick = () => { answer = $("asking-value").value; dialog.close(); };
    $("asking-no").onclick = () => dialog.close();
    dialog.onclose = () => resolve(answer);
  });
}

export function confirmed(question) {
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
