/**
 * From a distance to its place in the palette: pure arithmetic.
 *
 * A scale starts at 0 and ends at the largest distance of the layer, of the picture, or of the layer over all steps.
 * Positions that are left out have no part in it. A signed scale (differences) is symmetric about 0.
 */
import { brief } from "./numbers.js";
import { rowName } from "./words.js";

/** What a cell is instead of a colour: 0..255 are colours. */
export const FLAT = 256; // at or below the noise floor
export const UNDEFINED = 257;
export const EXCLUDED = 258; // its position is left out
export const ABSENT = 259; // the table has no such row
export const SHADE_NAMES = ["flat", "undefined", "excluded", "absent"]; // of code - FLAT

const MIDDLE = 128; // of a signed scale: 0
const LOG_RANGE = 1e5; // the logarithmic curve is linear below this part of the largest, so that it can start at 0

const CURVES = {
  linear: (share) => share,
  sqrt: Math.sqrt,
  log: (share) => Math.log1p(LOG_RANGE * share) / Math.log1p(LOG_RANGE),
};
export const CURVE_NAMES = { linear: "linear", sqrt: "square root", log: "logarithmic" };

/**
 * The largest (or largest without sign) distance of each layer.
 * @param {{values: ArrayLike<number>, rows: number, cols: number}} matrix   (layer, token), row-major
 * @param {Uint8Array|null} excluded   1 for each token left out
 * @returns {Float64Array} NaN for a layer without any
 */
export function rowMaxima({ values, rows, cols }, excluded, signed = false) {
  const maxima = new Float64Array(rows).fill(NaN);
  for (let row = 0; row < rows; row++) {
    let most = -1;
    for (let col = 0, place = row * cols; col < cols; col++, place++) {
      const value = signed ? Math.abs(values[place]) : values[place];
      if (value > most && !(excluded !== null && excluded[col])) most = value;
    }
    if (most >= 0) maxima[row] = most;
  }
  return maxima;
}

/** The larger of two in each place; NaN only where both are. */
export function largerOf(one, other) {
  return one.map((value, row) => (Number.isNaN(value) || other[row] > value ? other[row] : value));
}

/**
 * @param {object} picture
 * @param {ArrayLike<number>} picture.values   (layer, token), row-major; NaN where undefined or absent
 * @param {number} picture.rows
 * @param {number} picture.cols
 * @param {Uint8Array|null} picture.absent     1 where the table has no row
 * @param {(number|null)[]} picture.floors     of each layer
 * @param {Uint8Array} picture.excluded        1 for each token left out
 * @param {"layer"|"picture"|"steps"} picture.normalise
 * @param {"linear"|"sqrt"|"log"} picture.curve
 * @param {boolean} [picture.signed]
 * @param {{maxima: Float64Array, source: string}|null} [picture.steps]   each layer's largest over the steps, and whence
 * @param {Float64Array|null} [picture.also]   each layer's largest in a picture that shares this scale
 * @returns {{colourIndex: (layer: number, value: number) => number, code: (layer: number, token: number) => number,
 *   position: (layer: number, value: number) => number, rowMax: Float64Array, tops: Float64Array, signed: boolean, ofLayers: boolean,
 *   low: string, middle: string, high: string, sentence: string}}
 *   `ofLayers`: whether each layer has a scale of its own; `rowMax`: each layer's largest; `tops`: what the last colour stands for; `position`: 0..1, or -1..1 where signed
 */
export function createScale({
  values,
  rows,
  cols,
  absent,
  floors,
  excluded,
  normalise,
  curve,
  signed = false,
  steps = null,
  also = null,
  place = null,
}) {
  const rowMax = rowMaxima({ values, rows, cols }, excluded, signed);
  const shared = also === null ? rowMax : largerOf(rowMax, also);
  const kind = normalise === "steps" && steps === null ? "layer" : normalise;
  const tops = topsOf(kind, shared, steps);
  const bent = CURVES[curve];
  const levels = Float64Array.from(floors, (floor) => floor ?? -1); // below every distance where there is none

  function position(layer, value) {
    const size = Math.abs(value);
    const share = size / tops[layer];
    const inside = share < 1 ? share : size > 0 ? 1 : 0; // a top of 0 gives NaN or infinity
    return value < 0 ? (signed ? -bent(inside) : 0) : bent(inside);
  }

  function colourIndex(layer, value) {
    if (value !== value) return UNDEFINED;
    if (Math.abs(value) <= levels[layer]) return FLAT;
    const place = position(layer, value);
    if (!signed) return Math.round(255 * place);
    const away = Math.round((MIDDLE - 1) * Math.abs(place)); // rounded by size, so that both sides mirror each other
    return place < 0 ? MIDDLE - away : MIDDLE + away;
  }

  function code(layer, token) {
    const place = layer * cols + token;
    if (absent !== null && absent[place]) return ABSENT;
    return excluded[token] ? EXCLUDED : colourIndex(layer, values[place]);
  }

  return {
    colourIndex,
    code,
    position,
    rowMax,
    tops,
    signed,
    ofLayers: kind === "layer",
    ...words(kind, tops, curve, signed, normalise, steps, also, rowName(place)),
  };
}

function topsOf(kind, rowMax, steps) {
  if (kind === "steps") return steps.maxima.map((value) => (value > 0 ? value : 0));
  const largest = rowMax.reduce((most, value) => (value > most ? value : most), 0);
  return rowMax.map((value) => (kind === "picture" ? largest : value > 0 ? value : 0));
}

/** What the legend says. */
function words(kind, tops, curve, signed, wanted, steps, also, row) {
  const of = {
    layer: `the ${row}'s largest`,
    picture: brief(tops[0] ?? 0),
    steps: `the ${row}'s largest of all steps`,
  }[kind];
  const by = {
    layer:
      also === null
        ? `Each ${row} is scaled by its own largest`
        : `Each ${row} is scaled by its largest in either picture`,
    picture: `All ${row}s share one scale`,
    steps: `Each ${row} is scaled by its largest of all steps`,
  }[kind];
  const both = also === null || kind === "layer" ? "" : ", the same in both pictures";
  const source = kind === "steps" ? ` (${steps.source})` : wanted === "steps" ? " (not known across steps)" : "";
  const start = signed ? "symmetric about 0" : "from 0";
  return {
    low: signed ? `−${kind === "picture" ? of : "largest"}` : "0",
    middle: signed ? "0" : "",
    high: signed && kind !== "picture" ? "largest" : of,
    sentence: `${by}${both}${source}; ${CURVE_NAMES[curve]}, ${start}.`,
  };
}
