// The Live view: plots

import { el, shape } from "./dom.js";
import { SECONDS, amount, size } from "./words.js";

export const PLOTS = [
  { title: "Messages", hint: "per second", kinds: ["messages"], rate: true, colors: { messages: 0 } },
  { title: "Octets of messages", hint: "per second", kinds: ["bytes"], rate: true, colors: { bytes: 2 }, unit: size, base: 1024, names: { bytes: "octets" } },
  { title: "Replies by code", hint: "to mail and refusals", prefix: "reply:", color: (kind) => ({ 2: [0, 2], 4: [1, 4], 5: [7, 3] }[kind[0]] || [6]) },
  { title: "Refused commands", hint: "by verb", prefix: "refused:", colors: { RCPT: 7, MAIL: 1, DATA: 3, AUTH: 5, none: 6 } },
  { title: "Disconnects by reason", prefix: "disconnect:", colors: { quit: 0, eof: 4, timeout: 1, reset: 3, shutdown: 2, refused: 7, abuse: 5 } },
  { title: "Errors by code", prefix: "error:", color: () => [7, 1, 3, 5, 4, 2, 6] },
  { title: "AUTH", prefix: "auth:", colors: { success: 0, failure: 7 } },
];

/** The next round number: 1, 2 or 5 times a power of ten; for sizes also times a power of 1024. */
function ceiling(value, base = 1000) {
  if (!value) return 0;
  let unit = 1;
  while (value / unit > base / 2) unit *= base;
  const power = base === 1024 ? Math.max(1, 10 ** Math.floor(Math.log10(value / unit))) : 10 ** Math.floor(Math.log10(value / unit));
  return unit * power * ([1, 2, 5, 10].find((step) => step * power * (1 + 1e-9) >= value / unit) || 10);
}

export class Plot {
  constructor(kind) {
    this.kind = kind;
    this.palette = new Map();
    this.axis = [0, 1, 2].map(() => el("span"));
    this.times = [0, 1, 2].map(() => el("span"));
    this.svg = shape("svg", { preserveAspectRatio: "none", role: "img", "aria-label": kind.title });
    this.legend = el("div", { class: "legend" });
    this.element = el("section", { class: "card plot" },
      el("h2", {}, kind.title, kind.hint ? el("span", { class: "hint", title: kind.hint }, kind.hint) : null),
      el("div", { class: "amounts" }, ...this.axis), this.svg,
      el("div", { class: "times" }, ...this.times), this.legend);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.at = Math.floor(((event.clientX - box.left) / box.width) * this.series.length);
      this.draw();
    });
    this.svg.addEventListener("pointerleave", () => { this.at = undefined; this.draw(); });
  }

  color(name) {
    if (this.kind.colors && name in this.kind.colors) return this.kind.colors[name];
    if (!this.palette.has(name)) {
      const choices = this.kind.color ? this.kind.color(name) : [6, 5, 4, 3, 1];
      this.palette.set(name, choices[[...this.palette.keys()].filter((other) => other[0] === name[0] || !this.kind.color).length % choices.length]);
    }
    return this.palette.get(name);
  }

  show(series) { this.series = series; this.draw(); }

  draw() {
    const { series, kind } = this;
    if (!series) return;
    const first = series.end - series.length + 1;
    const columns = new Map();
    const totals = new Map();
    for (const { number, counts } of series.intervals) {
      const column = [];
      for (const [key, count] of Object.entries(counts)) {
        if (kind.prefix ? !key.startsWith(kind.prefix) : !kind.kinds.includes(key)) continue;
        const name = kind.prefix ? key.slice(kind.prefix.length) : key;
        column.push([name, kind.rate ? count / series.step : count]);
        totals.set(name, (totals.get(name) || 0) + count);
      }
      if (column.length) columns.set(number - first, column);
    }
    const names = [...totals.keys()].sort();
    let top = 0;
    for (const column of columns.values()) top = Math.max(top, column.reduce((sum, [, value]) => sum + value, 0));
    const unit = kind.unit || amount;
    top = ceiling(top, kind.base);
    const paths = new Map(names.map((name) => [name, ""]));
    for (const [x, column] of columns) {
      let y = 100;
      for (const [name, value] of column.sort()) {
        const height = (value / top) * 100;
        y -= height;
        paths.set(name, `${paths.get(name)}M${x} ${y.toFixed(2)}h.86v${height.toFixed(2)}h-.86z`);
      }
    }
    this.svg.setAttribute("viewBox", `0 0 ${series.length} 100`);
    this.svg.replaceChildren(
      ...[0, 50, 100].map((y) => shape("line", { class: "grid", x1: 0, x2: series.length, y1: y, y2: y })),
      ...names.map((name) => shape("path", { class: `k${this.color(name)}`, d: paths.get(name) })));
    const minutes = (series.length * series.step) / 60;
    [top ? unit(top) : "", top ? unit(top / 2) : "", "0"].forEach((text, at) => { this.axis[at].textContent = text; });
    (minutes >= 60 ? [`${minutes / 60} h ago`, `${minutes / 120} h`, "now"] : [`${minutes} min ago`, `${minutes / 2} min`, "now"])
      .forEach((text, at) => { this.times[at].textContent = text; });
    if (this.at === undefined || this.at < 0) {
      this.legend.replaceChildren(...(names.length ? names.map((name) => this.entry(name, kind.unit ? kind.unit(totals.get(name)) : amount(totals.get(name)))) : [el("span", {}, "nothing yet")]));
    } else {
      const x = this.at + 0.43;
      this.svg.append(shape("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: 100 }));
      const column = columns.get(this.at) || [];
      this.legend.replaceChildren(el("span", {}, SECONDS.format(new Date((first + this.at) * series.step * 1000))),
        ...(column.length ? column.map(([name, value]) => this.entry(name, unit(value) + (kind.rate ? "/s" : ""))) : [el("span", {}, "none")]));
    }
  }

  entry(name, value) {
    return el("span", {}, el("i", { class: `k${this.color(name)}` }), (this.kind.names || {})[name] || name, el("b", {}, value));
  }
}
