/** A panel that folds, and that does its work only while it is open, a moment after the last change. */
import { element } from "./element.js";
import { isCheap } from "./measured.js";
import { currentView, otherPlace } from "./view.js";

const CALM = 120; // ms without a change before work begins: steps may be playing

/**
 * @param {HTMLElement} root
 * @param {object} store
 * @param {object} panel
 * @param {string} panel.title
 * @param {string[]} panel.keys   the state's keys that make its content another one
 * @param {(state: object) => number[]} panel.variants   what it reads
 * @param {(state: object, signal: AbortSignal) => Promise<void>} panel.fill
 * @param {(state: object, changed: string[]) => void} [panel.touch]   light work at other changes, while it is open
 * @returns {{details: HTMLDetailsElement, body: HTMLElement, refill: () => void, status: (text: string) => void}}
 */
export function lazyPanel(root, store, { title, keys, variants, fill, touch = () => {} }) {
  const line = element("p", { class: "muted small", role: "status" });
  const alone = element("p", { class: "muted small" });
  const body = element("div", { class: "panel-body" });
  const summary = element("summary", { click: () => (chosen = true) }, element("h2", {}, title));
  const details = element("details", {}, summary, line, alone, body);
  root.append(details);
  const status = (text) => (line.textContent = text);
  let [chosen, filledFor, work, timer] = [false, null, null, 0];

  async function start() {
    const state = store.get();
    if (!state.result || !details.open) return;
    filledFor = state;
    work = new AbortController();
    const { signal } = work;
    try {
      await fill(state, signal);
    } catch (error) {
      if (!signal.aborted) status(`Could not be read: ${error.message}`);
    }
  }

  function refill() {
    work?.abort();
    clearTimeout(timer);
    filledFor = null;
    if (details.open) timer = setTimeout(start, CALM);
  }

  details.addEventListener("toggle", () => details.open && filledFor === null && refill());
  store.subscribe((state, changed) => {
    const has = (key) => changed.has(key);
    if (!state.result) return;
    if (["compare", "otherResult", "result", "step", "at", "variant", "metric"].some(has))
      alone.textContent = aloneText(state);
    if (!chosen && has("result")) details.open = isCheap(state, variants(state));
    if (keys.some(has)) refill();
    else if (details.open) touch(state, changed);
  });
  if (store.get().result) {
    details.open = isCheap(store.get(), variants(store.get()));
    refill();
  }
  return { details, body, refill, status };
}

/** These panels have no second run, step or variant, and no single measured cell: said where one is shown. */
function aloneText(state) {
  if (typeof currentView(state)?.place.at === "number")
    return "Of the mean over all measured cells, not of the one above.";
  if (!otherPlace(state)) return "";
  const { result, step } = state;
  return `Of ${result.id}, step ${result.steps[step]}, alone: not of the comparison above.`;
}
