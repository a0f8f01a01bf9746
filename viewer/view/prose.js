/** What the running text is made of: tokens one by one, an image's tokens folded into one chip, in chunks. */

import { ABSENT, FLAT } from "./scale.js";

/**
 * @typedef {{token: number}|{image: number, from: number, to: number, rows: number, cols: number}} Piece
 *   a token by its index, or the vision tokens from..to (exclusive) of one image
 */

/**
 * @param {object[]} tokens   as `result.tokens` gives them
 * @param {object[]} images   as `result.images`; a grid given there is the fold's, else the tokens' own extent
 * @returns {Piece[]} in order; an image whose tokens stand apart has one fold for each stretch
 */
export function folded(tokens, images = []) {
  const pieces = [];
  for (let token = 0; token < tokens.length; token++) {
    const { type, image, row, col } = tokens[token];
    const last = pieces.at(-1);
    if (type !== "vision") {
      pieces.push({ token });
    } else if (last?.image === image && last.to === token) {
      last.to = token + 1;
      last.rows = Math.max(last.rows, row + 1);
      last.cols = Math.max(last.cols, col + 1);
    } else {
      pieces.push({ image, from: token, to: token + 1, rows: row + 1, cols: col + 1 });
    }
  }
  for (const piece of pieces) {
    const grid = piece.image === undefined ? null : images[piece.image]?.grid;
    if (grid) [piece.rows, piece.cols] = grid;
  }
  return pieces;
}

/** Chunks of about `size` pieces; each ends where a line ends, if one does in its last half. */
export function chunks(pieces, tokens, size = 400) {
  const found = [];
  for (let from = 0; from < pieces.length; ) {
    let to = Math.min(pieces.length, from + size);
    if (to < pieces.length) {
      for (let end = to; end > from + size / 2; end--) {
        const { token } = pieces[end - 1];
        if (token === undefined || !tokens[token].text.includes("\n")) continue;
        to = end;
        break;
      }
    }
    found.push(pieces.slice(from, to));
    from = to;
  }
  return found;
}

/**
 * One code for each token, over the layers: 0..255 in the palette, or FLAT, UNDEFINED, EXCLUDED, ABSENT.
 *
 * "max" is the strongest cell of the token, "mean" the mean of its cells, both after scaling: raw distances of different
 * layers have different units. A flat cell counts as zero, one that is undefined or absent not at all.
 *
 * @param {(layer: number, token: number) => number} code   of one cell, as a scale gives it
 * @param {{rows: number, cols: number}} size
 * @param {number|"max"|"mean"} choice   a layer's index, or over all layers
 * @param {number} zero   the colour that stands for 0; in a signed scale what is farther from it is stronger
 * @returns {{codes: Uint16Array, layers: Int32Array}} for each token; `layers`: the layer of its strongest cell
 */
export function overLayers(code, { rows, cols }, choice, zero = 0) {
  const codes = new Uint16Array(cols).fill(ABSENT);
  const layers = new Int32Array(cols);
  if (typeof choice === "number") {
    layers.fill(choice);
    for (let token = 0; token < cols; token++) codes[token] = code(choice, token);
    return { codes, layers };
  }
  const [sums, counts, strengths] = [new Float64Array(cols), new Int32Array(cols), new Int16Array(cols).fill(-1)];
  for (let layer = 0; layer < rows; layer++) {
    for (let token = 0; token < cols; token++) {
      const found = code(layer, token);
      if (found > FLAT) {
        if (counts[token] === 0 && found < codes[token]) codes[token] = found;
        continue;
      }
      const colour = found === FLAT ? zero : found;
      const strength = Math.abs(colour - zero);
      if (strength > strengths[token]) {
        strengths[token] = strength;
        layers[token] = layer;
        codes[token] = found;
      }
      sums[token] += colour;
      counts[token]++;
    }
  }
  if (choice === "mean") {
    for (let token = 0; token < cols; token++) if (strengths[token] > 0) codes[token] = Math.round(sums[token] / counts[token]);
  }
  return { codes, layers };
}
