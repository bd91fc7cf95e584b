// The reader's settings, kept in this browser

export const choice = {
  get: (name) => { try { return localStorage.getItem(`smtp_blinker.${name}`) || ""; } catch { return ""; } },
  set: (name, value) => { try { localStorage.setItem(`smtp_blinker.${name}`, value); } catch { /* lost when the page is closed */ } },
};

export function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

/** One line or three for each message on the list. */
export function showDensity(density) {
  const compact = density === "compact";
  document.documentElement.classList.toggle("compact", compact);
  document.getElementById("density")?.setAttribute("aria-pressed", compact);
}

export const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark"
  || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
