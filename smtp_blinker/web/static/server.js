// What the server is asked, and what is said of it

import { $ } from "./dom.js";

export async function ask(path, method = "GET") {
  const response = await fetch(path, { method, headers: { Accept: "application/json" } });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw Object.assign(new Error(answer.error || `${response.status}`), { status: response.status });
  return answer;
}

export const messagePath = (id, rest = "") => `api/messages/${encodeURIComponent(id)}${rest}`;

let toastTimer;
export function say(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $("toast").hidden = true; }, 4000);
}

export const failed = (error) => say(`That didn't work: ${error.message}`);

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
