/** Distances of any variant at the shown step, as the shown metric has them, read where they are not yet. */
import { leftOutMask } from "./columns.js";

/**
 * @typedef {object} Measured
 * @property {{values: ArrayLike<number>, rows: number, cols: number, absent: Uint8Array|null}} matrix
 * @property {Float64Array|null} norms   what each layer is divided by for a relative distance; NaN where it is not known
 * @property {(number|null)[]} floors      the noise floor of each layer, in the same units as the values after that
 */

/** @returns {Measured|null} null where it is not read yet */
export function peekMeasured(state, variant) {
  return measured(state, variant, state.result.peek(state.step, variant, base(state.metric)));
}

function measured({ result, step, metric }, variant, matrix) {
  if (!matrix) return null;
  const layers = Array.from({ length: matrix.rows }, (_, layer) => layer);
  const floors = layers.map((layer) => result.floor(step, variant, layer, base(metric)));
  if (metric !== "relative") return { matrix, norms: null, floors };
  const norms = Float64Array.from(layers, (layer) => result.norm(step, variant, layer) || NaN);
  return { matrix, norms, floors: floors.map((floor, layer) => (floor === null ? null : floor / norms[layer])) };
}

function base(metric) {
  return metric === "relative" ? "l2" : metric;
}

/** Is this variant's matrix in memory? */
export function isRead({ result, step, metric }, variant) {
  return result.peek(step, variant, base(metric)) !== null;
}

/**
 * Read variants one after the other and hand each over as it comes.
 * @param {object} state
 * @param {number[]} variants
 * @param {{each: (measured: Measured, variant: number, done: number) => void, signal: AbortSignal}} options
 */
export async function readMeasured(state, variants, { each, signal }) {
  for (const [done, variant] of variants.entries()) {
    if (done > 0 && isRead(state, variant)) await pause();
    const matrix = await state.result.matrix(state.step, variant, base(state.metric));
    if (signal.aborted) return;
    each(measured(state, variant, matrix), variant, done + 1);
  }
}

/** Lets the page draw and answer. */
export function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}

/** The indices of the variants that are heads. */
export function headVariants({ variants }) {
  return variants.flatMap((name, index) => (/^Head_\d+$/.test(name) ? [index] : []));
}

/** 1 for each token whose position is left out. */
export function excludedMask({ result, step, excluded }) {
  return leftOutMask(excluded, result.tokens(step));
}

/** Panels that are dear to fill are open from the start only where that is not much; less where it is not in memory yet. */
export const CHEAP_CELLS = 2e6;
export const CHEAP_UNREAD = 2e5;

export function isCheap(state, variants) {
  const cells = variants.length * state.result.layers.length * state.result.tokens(state.step).length;
  const inMemory = variants.every((variant) => isRead(state, variant));
  return variants.length > 0 && cells <= (inMemory ? CHEAP_CELLS : CHEAP_UNREAD);
}
