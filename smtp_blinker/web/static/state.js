// What the page knows

/** The list. */
export const inbox = { messages: [], rows: new Map(), query: new URLSearchParams(location.search).get("q") ?? "", hint: null, offset: 0, matching: 0, total: 0, known: null, asked: 0, shown: 0 };

/** The message that the address names, if any. */
export function openedId() {
  const match = /^#\/m\/(.+)$/.exec(location.hash);
  try { return match && decodeURIComponent(match[1]); } catch { return null; /* not one of ours */ }
}

export const state = {
  opened: null, // the message on display: { id, data }
  servers: [],
};
