/** Light or dark: by the system's choice, or by one's own, which this browser remembers. */
import { CHOICES } from "./state.js";

const KEY = "theme";
const system = globalThis.matchMedia?.("(prefers-color-scheme: dark)");

/** @returns {{theme: string, dark: boolean}} the part of the state it is; the page has it from now on */
export function startTheme() {
  const kept = recall();
  return applied(CHOICES.theme.includes(kept) ? kept : "auto");
}

export function createTheme(store) {
  const select = document.getElementById("theme");
  select.value = store.get().theme;
  select.addEventListener("change", () => {
    remember(select.value);
    store.set(applied(select.value));
  });
  system?.addEventListener("change", () => store.set(applied(store.get().theme)));
}

function applied(theme) {
  const dark = theme === "dark" || (theme === "auto" && system?.matches === true);
  document.documentElement.dataset.theme = theme; // "auto" is left to the style sheet
  return { theme, dark };
}

function recall() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // a browser may forbid it
  }
}

function remember(theme) {
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // then it holds until the page is closed
  }
}
