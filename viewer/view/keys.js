/** Single keys, anywhere but in a field that takes them itself. */
import { withPosition } from "./controls.js";
import { zoom } from "./moving.js";
import { CHOICES, canShow, withKind } from "./state.js";

export function listenToKeys({ store, map, steps, runs, search, help }) {
  const acts = {
    ArrowRight: () => steps.by(1),
    ArrowLeft: () => steps.by(-1),
    ".": () => steps.by(1),
    ",": () => steps.by(-1),
    p: () => steps.togglePlay(),
    v: () => changeVariant(store, 1),
    V: () => changeVariant(store, -1),
    m: () => nextMetric(store),
    u: () => nextKind(store),
    i: () => nextOf(store, "normalise"),
    c: () => nextOf(store, "curve"),
    e: () => store.set({ excluded: withPosition(store.get().excluded, 0, !store.get().excluded.has(0)) }),
    t: () => store.set({ transposed: !store.get().transposed, hover: null }),
    "+": () => zoom(map, 1),
    "=": () => zoom(map, 1),
    "-": () => zoom(map, -1),
    0: () => zoom(map, 0),
    9: () => zoom(map, "whole"),
    "/": () => search.focus(),
    n: () => search.go(1),
    N: () => search.go(-1),
    j: () => runs.by(1),
    k: () => runs.by(-1),
    o: () => document.getElementById("files").click(),
    "?": () => help.toggle(),
    Escape: () => store.set({ hover: null }),
  };
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || takesKeys(event)) return;
    const act = acts[event.key];
    if (!act || (!store.get().result && !["?", "o"].includes(event.key))) return;
    act();
    event.preventDefault();
  });
}

/** A field that one types in takes every key; a select or slider only those that it understands; an open dialog all. */
function takesKeys({ target, key }) {
  if (document.querySelector("dialog[open]")) return key !== "?";
  if (!(target instanceof Element)) return false;
  if (target.closest("textarea, [contenteditable]")) return true;
  const input = target.closest("input");
  if (input && !["checkbox", "range", "file"].includes(input.type)) return true;
  if (input?.type === "range") return key.startsWith("Arrow");
  return Boolean(target.closest("select")) && (key.startsWith("Arrow") || /^[a-z0-9]$/i.test(key));
}

function changeVariant(store, by) {
  const { result, variant } = store.get();
  const { length } = result.variants;
  store.set({ variant: (variant + by + length) % length });
}

function nextOf(store, key) {
  const choices = CHOICES[key];
  store.set({ [key]: choices[(choices.indexOf(store.get()[key]) + 1) % choices.length] });
}

function nextKind(store) {
  const { kind, kinds } = store.get().result;
  if (kinds.length > 1) store.set(withKind(store.get(), kinds[(kinds.indexOf(kind) + 1) % kinds.length]));
}

function nextMetric(store) {
  const { metric, result } = store.get();
  const choices = CHOICES.metric.filter((name) => canShow(result, name));
  store.set({ metric: choices[(choices.indexOf(metric) + 1) % choices.length] });
}
