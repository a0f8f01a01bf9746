/** The toolbar: selects and checkboxes that stand for one key of the state each. */
import { inOrder } from "./columns.js";
import { setOptions } from "./element.js";
import { zoom } from "./moving.js";
import { canShow, withKind } from "./state.js";
import { rowName } from "./words.js";

const NO_NORMS = "A relative distance needs the run file (…_run.json), which has the baseline's norms.";

export function createControls(store, map) {
  const at = (id) => document.getElementById(id);
  for (const key of ["metric", "normalise", "curve", "palette"]) {
    at(key).addEventListener("change", () => store.set({ [key]: at(key).value }));
  }
  at("units").addEventListener("change", () => store.set(withKind(store.get(), at("units").value)));
  at("variant").addEventListener("change", () => store.set({ variant: variantIndex(store, at("variant").value) }));
  at("transposed").addEventListener("change", () => store.set({ transposed: at("transposed").checked, hover: null }));
  at("exclude").addEventListener("change", () =>
    store.set({ excluded: withPosition(store.get().excluded, 0, at("exclude").checked) }),
  );
  for (const [id, way] of [
    ["zoom-in", 1],
    ["zoom-out", -1],
    ["zoom-fit", 0],
    ["zoom-whole", "whole"],
  ]) {
    at(id).addEventListener("click", () => zoom(map, way));
  }
  const update = (state, changed = null) => updated(at, state, changed, store);
  store.subscribe(update);
  update(store.get());
}

function variantIndex(store, name) {
  return Math.max(0, store.get().result.variants.indexOf(name));
}

/** The excluded positions with one more, or one less. */
export function withPosition(excluded, position, inside) {
  const changed = new Set(excluded);
  if (inside) changed.add(position);
  else changed.delete(position);
  return changed;
}

function updated(at, state, changed, store) {
  const has = (...keys) => changed === null || keys.some((key) => changed.has(key));
  if (has("result", "variant") && state.result) {
    const { variants } = state.result;
    setOptions(
      at("variant"),
      variants.map((name) => [name, name]),
      variants[state.variant],
    );
  }
  if (has("result") && state.result)
    at("normalise").querySelector("[value=layer]").textContent = `per ${rowName(state)}`;
  if (has("result") && state.result) showUnits(at, state.result);
  if (has("result") && state.result) allowRelative(at("metric"), canShow(state.result, "relative"));
  for (const key of ["metric", "normalise", "curve", "palette"]) if (has(key)) at(key).value = state[key];
  if (has("transposed")) at("transposed").checked = state.transposed;
  if (has("excluded")) showExcluded(at, state, store);
}

/** The kinds of units, where there are several, and pairs' interaction, where it was measured. */
function showUnits(at, { kind, kinds, interacts }) {
  setOptions(
    at("units"),
    kinds.map((name) => [name, name]),
    kind,
  );
  at("units").parentElement.hidden = kinds.length < 2;
  const option = at("metric").querySelector("[value=interaction]");
  option.hidden = option.disabled = !interacts;
}

function allowRelative(metric, allowed) {
  const option = metric.querySelector("[value=relative]");
  option.disabled = !allowed;
  option.title = metric.title = allowed ? "" : NO_NORMS;
}

function showExcluded(at, { excluded }, store) {
  at("exclude").checked = excluded.has(0);
  const others = inOrder(excluded).filter((position) => position !== 0);
  const root = at("also-excluded");
  root.replaceChildren();
  if (!others.length) return;
  root.append(
    `Also left out: ${others.length > 1 ? "positions" : "position"} `,
    `${others.slice(0, 20).join(", ")}${others.length > 20 ? ", …" : ""} `,
  );
  const clear = document.createElement("button");
  clear.type = "button";
  clear.textContent = "Take in again";
  clear.addEventListener("click", () => store.set({ excluded: new Set(excluded.has(0) ? [0] : []) }));
  root.append(clear);
}
