// What the page knows

/** The list. */
export const inbox = { messages: [], rows: new Map(), query: new URLSearchParams(location.search).get("q") ?? "", hint: null, offset: 0, matching: 0, total: 0, known: null, asked: 0, shown: 0 };

export const state = {
  opened: null, // the message on display: { id, data }
  servers: [],
};
