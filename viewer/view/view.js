/** What every panel draws of a state: the numbers, their scale, what is left out. */
import { aligned, difference } from "./align.js";
import { leftOutMask } from "./columns.js";
import { createScale, rowMaxima, largerOf } from "./scale.js";

/**
 * @typedef {object} View
 * @property {Float32Array|Float64Array} values   (layer, token), row-major
 * @property {number} rows
 * @property {number} cols
 * @property {Uint8Array|null} absent
 * @property {object[]} tokens
 * @property {number[]} layers
 * @property {(number|null)[]} floors      of each layer, in the units of the values
 * @property {ReturnType<typeof createScale>} scale
 * @property {Uint8Array} excludedMask     1 for each token whose position is left out
 * @property {object|null} compared        what align.js says of the two that are compared
 * @property {object[]} [parts]            where two are compared: both pictures
 * @property {object} place                {result, step, variant} that it is of
 */

/** @returns {View|null} null while it is being read */
export function currentView(state) {
  return remembered("current", state, () => makeView(state));
}

/** The second picture where two are side by side; null if there is none, or not yet. */
export function otherView(state) {
  return remembered("other", state, () => makeOther(state));
}

/** The places that have to be read for a state: [{result, step, variant}]. */
export function neededPlaces(state) {
  if (!state.result) return [];
  return [shownPlace(state), otherPlace(state)].filter(Boolean);
}

/** What the second picture is of; null where nothing is compared, or the other has no such step or variant, or is of another part. */
export function otherPlace(state) {
  const { compare, result, otherResult, step, variant } = state;
  if (!compare || compare.other === null) return null;
  if (compare.kind === "step")
    return result.steps[compare.other] === undefined ? null : { result, step: compare.other, variant };
  if (compare.kind === "variant")
    return result.variants[compare.other] === undefined ? null : { result, step, variant: compare.other };
  if (!otherResult || otherResult.id !== compare.other || otherResult.part !== result.part) return null;
  const other = otherResult.ofKind(result.kind);
  if (other.kind !== result.kind || (state.metric === "interaction" && !other.interacts)) return null;
  const there = {
    result: other,
    step: other.steps.indexOf(result.steps[step]),
    variant: other.variants.indexOf(result.variants[variant]),
  };
  return there.step < 0 || there.variant < 0 ? null : there;
}

const SHAPING = [
  "result",
  "step",
  "variant",
  "metric",
  "normalise",
  "curve",
  "excluded",
  "at",
  "compare",
  "otherResult",
  "reads",
];
const last = {};

/** The last view of each kind is kept: most changes leave it as it is. */
function remembered(kind, state, make) {
  const held = last[kind];
  if (held && SHAPING.every((key) => held.state[key] === state[key])) return held.view;
  const view = make();
  last[kind] = { state, view };
  return view;
}

/** The place that is drawn of a state: {result, step, variant, at}, `at` null where the mean is drawn. */
export function shownPlace(state) {
  const { result, step, variant } = state;
  return { result, step, variant, at: asked(state) };
}

/** The token of the measured cell asked for, where it was kept: of Full's L2 distances alone, and not where two are compared. */
function asked({ result, variant, at, metric, compare }) {
  return at !== null && result.each && metric === "l2" && result.variants[variant] === "Full" && !compare ? at : null;
}

/** Where a run of the encoder was measured, in words; "" for a decoder's. */
export function measuredWords({ result, step, at }) {
  if (result.part !== "encoder") return "";
  const tokens = result.tokens(step);
  const cell = typeof at === "number" ? tokens[at] : tokens.find(({ position }) => position === result.measured);
  if (cell) return `measured at ${cell.text}`;
  return result.run ? "mean over all measured cells" : "measured where its run file says";
}

/** Two places of encoder runs that were not measured at the same: a sentence that names both; "" elsewhere. */
export function measuredApart(here, there) {
  const [one, other] = [measuredWords(here), measuredWords(there)];
  return one === other ? "" : `${here.result.id}: ${one}; ${there.result.id}: ${other}.`;
}

function makeView(state) {
  if (!state.result) return null;
  const here = pictureOf(shownPlace(state), state.metric);
  const there = otherPlace(state);
  if (!here || !there) return here && scaled(here, state, {});
  const other = pictureOf(there, state.metric);
  if (!other) return state.compare.mode === "side" ? scaled(here, state, {}) : null;
  const compared = comparedOf(here, other);
  if (state.compare.mode === "difference")
    return { ...scaled(differenceOf(here, other, compared), state, { signed: true }), compared, parts: [here, other] };
  return { ...scaled(here, state, { also: maximaFor(here, other, state) }), compared, parts: [here, other] };
}

function makeOther(state) {
  const there = state.result && state.compare?.mode === "side" ? otherPlace(state) : null;
  const here = there && pictureOf(shownPlace(state), state.metric);
  const other = here && pictureOf(there, state.metric);
  if (!other) return null;
  return { ...scaled(other, state, { also: maximaFor(other, here, state) }), compared: comparedOf(other, here) };
}

function scaled(picture, state, { signed = false, also = null }) {
  const excludedMask = maskOf(picture.tokens, state.excluded);
  const steps = state.normalise === "steps" && !signed ? acrossSteps(picture.place, state) : null;
  const { normalise, curve } = state;
  const scaledBy = (kind) =>
    createScale({
      ...picture,
      excluded: excludedMask,
      normalise: kind,
      curve,
      signed,
      steps,
      also: steps ? null : also,
    });
  const scale = scaledBy(normalise);
  // Over several layers: each layer's own scale would make its largest as strong as any other's.
  const overall = scale.ofLayers ? once(() => scaledBy("picture")) : () => scale;
  return { ...picture, scale, overall, excludedMask, compared: null };
}

function once(make) {
  let made = null;
  return () => (made ??= make());
}

/** The other picture's largest distance of each layer that this one has. */
function maximaFor(here, other, { excluded }) {
  const maxima = rowMaxima(other, maskOf(other.tokens, excluded));
  return Float64Array.from(here.layers, (layer) => maxima[other.layers.indexOf(layer)] ?? NaN);
}

const masks = new WeakMap();

function maskOf(tokens, excluded) {
  let held = masks.get(tokens);
  if (held?.excluded !== excluded) {
    held = { excluded, mask: leftOutMask(excluded, tokens) };
    masks.set(tokens, held);
  }
  return held.mask;
}

// Pictures: the numbers of one place, by metric

const kept = []; // the latest pictures, so that what is compared or changed back is not computed anew
const MOST_KEPT = 6;

function pictureOf(place, metric) {
  const { result, step, variant } = place;
  const read = result.peek(step, variant, metric === "relative" ? "l2" : metric);
  if (!read) return null;
  const matrix = typeof place.at === "number" ? { ...read, values: result.each(place.at) } : read;
  const found = kept.find(
    ({ picture, of }) =>
      of.matrix === matrix.values &&
      of.metric === metric &&
      picture.place.result === result &&
      picture.place.step === step,
  );
  if (found) return found.picture;
  const picture = metric === "relative" ? relative(place, matrix) : measured(place, matrix, metric);
  kept.unshift({ picture, of: { matrix: matrix.values, metric } });
  kept.length = Math.min(kept.length, MOST_KEPT);
  return picture;
}

function measured(place, matrix, metric) {
  const { result, step, variant } = place;
  const floors = result.layers.map((_, layer) => result.floor(step, variant, layer, metric));
  return { ...matrix, tokens: result.tokens(step), layers: result.layers, floors, place };
}

function relative(place, matrix) {
  const { result, step, variant } = place;
  const picture = measured(place, matrix, "l2");
  const norms = result.layers.map((_, layer) => result.norm(step, variant, layer) || NaN); // of nothing there is no share
  const values = new Float64Array(matrix.values.length);
  norms.forEach((norm, layer) => {
    for (let at = layer * matrix.cols, end = at + matrix.cols; at < end; at++) values[at] = matrix.values[at] / norm;
  });
  const floors = picture.floors.map((floor, layer) =>
    floor === null || Number.isNaN(norms[layer]) ? null : floor / norms[layer],
  );
  return { ...picture, values, floors };
}

// Two pictures

const pairs = [];

function pairOf(here, other) {
  let pair = pairs.find((held) => held.here === here && held.other === other);
  if (!pair) {
    pair = { here, other, compared: aligned(here, other), difference: null };
    pairs.unshift(pair);
    pairs.length = Math.min(pairs.length, 4);
  }
  return pair;
}

function comparedOf(here, other) {
  return pairOf(here, other).compared;
}

function differenceOf(here, other, compared) {
  const pair = pairOf(here, other);
  pair.difference ??= difference(here, other, compared);
  return pair.difference;
}

// Across steps

let across = null;

/**
 * Each layer's largest over all steps: by the run file if it leaves out the same positions, else over the steps that
 * are read.
 */
function acrossSteps(place, state) {
  const { result, variant } = place;
  const key = [result, variant, state.metric, state.excluded, state.reads];
  if (!across || key.some((part, index) => part !== across.key[index])) {
    const fromRun =
      state.excluded.size === 1 && state.excluded.has(0) ? recordedMaxima(result, variant, state.metric) : null;
    across = { key, steps: fromRun ?? computedMaxima(result, variant, state) };
  }
  return across.steps;
}

function recordedMaxima(result, variant, metric) {
  const base = metric === "relative" ? "l2" : metric;
  const maxima = new Float64Array(result.layers.length).fill(NaN);
  for (let step = 0; step < result.steps.length; step++) {
    for (let layer = 0; layer < maxima.length; layer++) {
      const largest = result.maxima(step, variant, layer, base);
      const norm = metric === "relative" ? result.norm(step, variant, layer) : 1;
      if (largest !== null && norm && !(largest / norm <= maxima[layer])) maxima[layer] = largest / norm;
    }
  }
  return maxima.every(Number.isNaN) ? null : { maxima, source: "by the run file" };
}

function computedMaxima(result, variant, { metric, excluded }) {
  let maxima = new Float64Array(result.layers.length).fill(NaN);
  let read = 0;
  for (let step = 0; step < result.steps.length; step++) {
    const matrix = result.peek(step, variant, metric === "relative" ? "l2" : metric);
    if (!matrix) continue;
    read++;
    const own = rowMaxima(matrix, leftOutMask(excluded, result.tokens(step)));
    const norms = metric === "relative" ? own.map((_, layer) => result.norm(step, variant, layer) || NaN) : null;
    maxima = largerOf(maxima, norms ? own.map((value, layer) => value / norms[layer]) : own);
  }
  return {
    maxima,
    source: read === result.steps.length ? "all steps" : `over the ${read} of ${result.steps.length} steps read so far`,
  };
}
