// Words and numbers

// All times have 24 hours, the day before the month, and the time zone of this browser. The page
// is in English, and so are its dates and numbers.

const time = (parts) => new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...parts });
const DAY = { day: "numeric", month: "short" };
const MINUTES = { hour: "2-digit", minute: "2-digit" };
const CLOCK = time(MINUTES);
export const SECONDS = time({ ...MINUTES, second: "2-digit" });
const THIS_YEAR = time({ ...DAY, ...MINUTES });
const OTHER_YEAR = time({ ...DAY, year: "numeric" });
export const STAMP = time({ ...DAY, year: "numeric", ...MINUTES, second: "2-digit" });
export const FULL = time({ dateStyle: "full", timeStyle: "long" });
export const ZONE = CLOCK.resolvedOptions().timeZone;
export const NUMBER = new Intl.NumberFormat("en-GB");

export function when(seconds) {
  const date = new Date(seconds * 1000);
  const now = new Date();
  if (date.toDateString() === now.toDateString()) return CLOCK.format(date);
  return (date.getFullYear() === now.getFullYear() ? THIS_YEAR : OTHER_YEAR).format(date);
}

export function size(octets) {
  let unit = 0;
  while (octets >= 1000 && unit < 4) { octets /= 1024; unit += 1; }
  const digits = unit && octets < 10 ? 1 : 0;
  return `${octets.toFixed(digits)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

export function amount(number) {
  if (number >= 1e6) return `${(number / 1e6).toFixed(1)} M`;
  if (number >= 1e4) return `${(number / 1e3).toFixed(1)} k`;
  return NUMBER.format(number < 10 ? Math.round(number * 100) / 100 : Math.round(number));
}

export function duration(seconds) {
  seconds = Math.max(0, Math.round(seconds));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function plural(number, word) {
  return `${NUMBER.format(number)} ${word}${number === 1 ? "" : "s"}`;
}

/** The name in `Name <address>`, or the address. */
export function nameOf(address) {
  const match = /^\s*"?([^"<]*?)"?\s*<([^<>]*)>\s*$/.exec(address);
  return match ? match[1] || match[2] : address;
}
