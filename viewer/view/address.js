/** Keeps the state in the address, and follows an address that was typed or pasted. */
import { decodeState, encodeState, placeIn } from "./hash.js";
import { DEFAULTS, canShow, withKind } from "./state.js";

// Browsers refuse a page that writes its address more than about 200 times in 30 seconds.
const AT_ONCE = 40;
const REFILL = 250; // ms

/**
 * @param {object} store
 * @param {object} calm   the store for listeners that are not urgent
 * @returns {{wantedRun: () => string|null, placeFor: (result: object) => object}} the run that the address names, and what it
 *   asks of a result
 */
export function keepAddress(store, calm) {
  let asked = decodeState(location.hash);
  let written = location.hash;
  store.set(asked.look);
  const write = sparingly(() => {
    const text = encodeState(store.get());
    written = text ? `#${text}` : "";
    if (written !== location.hash) history.replaceState(null, "", written || location.pathname + location.search);
  });
  calm.subscribe((state, changed) => {
    if (state.result && !(changed.size === 1 && (changed.has("hover") || changed.has("reads")))) write();
  });
  addEventListener("hashchange", () => {
    if (location.hash === written) return;
    asked = decodeState(location.hash);
    const { result } = store.get();
    const { metric, normalise, curve, palette, transposed, cell, excluded, search } = DEFAULTS;
    const shown = result ? withKind(store.get(), asked.look.units ?? null) : {};
    store.set({
      ...shown,
      metric,
      normalise,
      curve,
      palette,
      transposed,
      cell,
      excluded,
      search,
      layerChoice: "max",
      ...asked.look,
      ...(result ? placeFor(shown.result) : {}),
    });
    if (result && !canShow(shown.result, store.get().metric)) store.set({ metric });
  });

  function placeFor(result) {
    const { run, place } = asked;
    if (run !== null && run !== result.id) return {};
    asked = decodeState(""); // it holds once; what is shown after that is up to the reader
    return { ...placeIn(result, place) };
  }

  return { wantedRun: () => asked.run, placeFor };
}

/** Acts at once, but no more than AT_ONCE times in a row; what comes too soon waits, and only the last one acts. */
function sparingly(act) {
  let [left, since, timer] = [AT_ONCE, performance.now(), null];
  return function again() {
    const now = performance.now();
    left = Math.min(AT_ONCE, left + (now - since) / REFILL);
    since = now;
    if (left >= 1) {
      left -= 1;
      act();
    } else {
      timer ??= setTimeout(() => {
        timer = null;
        again();
      }, REFILL);
    }
  };
}
