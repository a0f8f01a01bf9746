/** What is shown, in one object; whoever draws it subscribes. */
import { foundAgain, keyOf } from "./columns.js";

export { currentView, otherView } from "./view.js";

/**
 * @typedef {object} State   step, variant, token and layer are indices into the result's lists
 * @property {object|null} result              of the kind of units that is shown
 * @property {string|null} units               the kind asked for; null: a result's first
 * @property {number} step
 * @property {number} variant
 * @property {"l2"|"cosine"|"relative"|"interaction"} metric
 * @property {boolean} transposed              tokens are rows
 * @property {"layer"|"picture"|"steps"} normalise
 * @property {"linear"|"sqrt"|"log"} curve
 * @property {"viridis"|"cividis"} palette
 * @property {"auto"|"light"|"dark"} theme
 * @property {boolean} dark                    what the theme comes to
 * @property {Set<number>} excluded            positions (not indices), several as text
 * @property {number|"max"|"mean"} layerChoice of the running text
 * @property {number|null} cell                CSS pixels of a cell's side; null: as fits
 * @property {{layer: number|null, token: number}|null} hover
 * @property {number[]} pins
 * @property {number|null} at                  the measured cell asked for, where a run of the encoder kept each; null: their mean
 * @property {string} search
 * @property {{kind: "run"|"step"|"variant", other: number|string|null, mode: "side"|"difference"}|null} compare
 *   `other`: a step's or variant's index, or a run's id
 * @property {object|null} otherResult         the run compared with
 * @property {number} reads                    goes up when something asked for has been read
 */

/** @type {State} */
export const DEFAULTS = {
  result: null,
  units: null,
  step: 0,
  variant: 0,
  metric: "l2",
  transposed: false,
  normalise: "layer",
  curve: "sqrt",
  palette: "viridis",
  theme: "auto",
  dark: false,
  excluded: new Set([0]),
  layerChoice: "max",
  cell: null,
  hover: null,
  pins: [],
  at: null,
  search: "",
  compare: null,
  otherResult: null,
  reads: 0,
};

export const CHOICES = {
  metric: ["l2", "cosine", "relative", "interaction"],
  normalise: ["layer", "picture", "steps"],
  curve: ["linear", "sqrt", "log"],
  palette: ["viridis", "cividis"],
  theme: ["auto", "light", "dark"],
};

export const METRIC_NAMES = {
  l2: "L2 distance",
  cosine: "cosine distance",
  relative: "relative distance",
  interaction: "interaction (L2)",
};

/**
 * @param {Partial<State>} initial
 * @returns {{get: () => State, set: (patch: Partial<State>) => void,
 *   subscribe: (listener: (state: State, changed: Set<string>) => void) => () => void}}
 *   `set` tells all listeners, in the order in which they subscribed, which keys are others now; nothing if none is
 */
export function createStore(initial = {}) {
  let state = { ...DEFAULTS, ...initial };
  const listeners = new Set();

  function set(patch) {
    const changed = new Set(Object.keys(patch).filter((key) => !same(patch[key], state[key])));
    if (changed.size === 0) return;
    state = { ...state, ...patch };
    for (const listener of listeners) listener(state, changed);
  }

  function subscribe(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  return { get: () => state, set, subscribe };
}

/** The same cell is the same hover, whoever made the object. */
function same(one, other) {
  if (Object.is(one, other)) return true;
  return Boolean(one && other && "token" in Object(one) && one.token === other.token && one.layer === other.layer);
}

/**
 * The same store for listeners that are not urgent: told once after the next frame is drawn, with all that changed since.
 * @param {ReturnType<typeof createStore>} store
 */
export function afterDrawing(store) {
  const listeners = new Set();
  let waiting = null;
  store.subscribe((_, changed) => {
    if (waiting === null) {
      waiting = new Set();
      requestAnimationFrame(() => {
        const all = waiting;
        waiting = null;
        for (const listener of listeners) listener(store.get(), all);
      });
    }
    for (const key of changed) waiting.add(key);
  });
  return {
    get: store.get,
    set: store.set,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** What of the state belongs to a run; it starts anew with another one, or stays where the other has the same. */
export function forResult(state, opened) {
  const result = opened.ofKind(state.units);
  const old = state.result;
  const variant = old ? result.variants.indexOf(old.variants[state.variant]) : 0;
  const same = old?.id === result.id;
  const step = same ? result.steps.indexOf(old.steps[state.step]) : 0;
  const sameUnits = same && old.kind === result.kind;
  return {
    result,
    step: Math.max(0, step),
    variant: Math.max(0, variant),
    pins: sameUnits ? state.pins : [],
    at: sameUnits ? state.at : null,
    excluded: excludedFor(state, result),
    hover: null,
    metric: canShow(result, state.metric) ? state.metric : "l2",
    layerChoice:
      typeof state.layerChoice === "number" && state.layerChoice >= result.layers.length ? "max" : state.layerChoice,
    compare: same
      ? state.compare
      : state.compare?.kind === "run" && state.compare.other !== result.id
        ? state.compare
        : null,
  };
}

/** Position 0 is left out as the usual attention sink; where it is a picture's cell, as in the encoder, it is none. */
function excludedFor({ excluded, result: old }, result) {
  const cellFirst = (one) => one?.tokens(0)[0]?.type === "vision" && one.tokens(0)[0].position === 0;
  if (Boolean(cellFirst(old)) === cellFirst(result)) return excluded;
  const others = [...excluded].filter((position) => position !== 0);
  return new Set(cellFirst(result) ? others : [0, ...others]);
}

/** The same run by another kind of units. */
export function withKind(state, units) {
  return { units, ...forResult({ ...state, units }, state.result) };
}

/** Another generation step. Its tokens stand where they stood; units are found again by their positions. */
export function atStep({ result, step, pins, hover }, next) {
  if (result.kind === "tokens") return { step: next };
  const [before, after] = [result.tokens(step), result.tokens(next)];
  const again = foundAgain(
    [...pins, ...(hover ? [hover.token] : [])].map((index) => keyOf(before[index])),
    after,
  );
  const pinned = again.slice(0, pins.length).filter((index) => index >= 0);
  const token = hover ? again.at(-1) : -1;
  return { step: next, pins: pinned, hover: token < 0 ? null : { ...hover, token } };
}

/** Has a result this metric? */
export function canShow(result, metric) {
  if (metric === "interaction") return result.interacts;
  return metric !== "relative" || hasNorms(result);
}

/** Are there relative distances? Only a run file knows the baseline's norms. */
export function hasNorms(result) {
  return result.layers.some((_, layer) => result.norm(0, 0, layer) !== null);
}
