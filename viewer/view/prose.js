/** What the running text is made of: tokens one by one, an image's tokens folded into one chip, in chunks. */

import { ABSENT, FLAT } from "./scale.js";

/**
 * @typedef {{token: number}|{image: number, from: number, to: number, rows: number, cols: number}|{gap: string, from: number, to: number}} Piece
 *   a token by its index, the vision tokens from..to (exclusive) of one image, or the text of what was not masked before token `from`
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
    } else if (last?.image === image) {
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

/**
 * The same pieces and, where positions are missing between them, one more for each stretch of tokens that were not masked.
 * @param {string[]} texts   of all positions, as the run file has them; none without one
 * @returns {Piece[]}
 */
export function withGaps(pieces, tokens, texts) {
  const all = [];
  let next = 0;
  const fill = (to, at) =>
    to > next && texts.length && all.push({ gap: gapText(texts.slice(next, to)), from: at, to: at });
  for (const piece of pieces) {
    const [first, last] = [piece.token ?? piece.from, piece.token ?? piece.to - 1];
    fill(tokens[first].position, first);
    all.push(piece);
    next = tokens[last].position + 1;
  }
  fill(texts.length, tokens.length);
  return all;
}

/**
 * The running text of units: a piece for each stretch of positions that the same units hold, and gaps between. Without the
 * run file's texts each unit's own stands for it, but only where units cannot overlap.
 * @param {object[]} tokens   units, as `result.tokens` gives them
 * @param {string[]} texts    of all positions; none without a run file
 * @param {{overlap: boolean, cuts?: number[]}} about   `cuts`: positions before which a piece ends in any case
 * @returns {({token: number, units: number[], text: string, position: number}|{gap: string, from: number, to: number})[]}
 */
export function unitPieces(tokens, texts, { overlap, cuts = [] }) {
  if (!texts.length)
    return overlap ? [] : tokens.map(({ text, position }, token) => ({ token, units: [token], text, position }));
  const turns = new Map([0, ...cuts].map((at) => [at, []])); // position -> units that begin or end there
  const turn = (at, unit) => turns.set(at, [...(turns.get(at) ?? []), unit]);
  tokens.forEach(({ ranges }, unit) =>
    ranges.forEach(([first, last]) => {
      turn(first, unit);
      turn(last + 1, unit);
    }),
  );
  const places = [...turns.keys()].filter((at) => at < texts.length).sort((one, other) => one - other);
  const held = new Set();
  return places.map((at, index) => {
    for (const unit of turns.get(at)) if (!held.delete(unit)) held.add(unit);
    const own = texts.slice(at, places[index + 1]);
    if (!held.size) return { gap: gapText(own), from: at, to: at };
    const units = [...held].sort((one, other) => one - other);
    return { token: units[0], units, text: gapText(own), position: at };
  });
}

/** Tokens joined, an image's patches as one word. */
function gapText(texts) {
  return texts.join("").replace(/(img\d+)\[\d+,\d+\](?:\1\[\d+,\d+\])*/g, "[$1]");
}

/** Chunks of about `size` pieces; each ends where a line ends, if one does in its last half. */
export function chunks(pieces, tokens, size = 400) {
  const found = [];
  for (let from = 0; from < pieces.length;) {
    let to = Math.min(pieces.length, from + size);
    if (to < pieces.length) {
      for (let end = to; end > from + size / 2; end--) {
        const { token } = pieces[end - 1];
        if (token === undefined || !(pieces[end - 1].text ?? tokens[token].text).includes("\n")) continue;
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
 * "max" is the strongest cell of the token, "mean" the mean of its cells, both after scaling (by a scale that all layers
 * share). A flat cell counts as zero, one that is undefined or absent not at all.
 *
 * A token is looked up when it is asked for: a million cells would take 50 ms.
 *
 * @param {(layer: number, token: number) => number} code   of one cell, as a scale gives it
 * @param {number} rows   layers
 * @param {number|"max"|"mean"} choice   a layer's index, or over all layers
 * @param {number} zero   the colour that stands for 0; in a signed scale what is farther from it is stronger
 * @returns {(token: number) => {code: number, layer: number, strength: number}} `layer`: of its strongest cell;
 *   `strength`: how far its colour is from zero, -1 where it has none
 */
export function overLayers(code, rows, choice, zero = 0) {
  const found = new Map();
  const look =
    typeof choice === "number"
      ? (token) => oneLayer(code, choice, token, zero)
      : (token) => allLayers(code, rows, token, choice, zero);
  return (token) => {
    if (!found.has(token)) found.set(token, look(token));
    return found.get(token);
  };
}

function oneLayer(code, layer, token, zero) {
  const own = code(layer, token);
  return { code: own, layer, strength: own < FLAT ? Math.abs(own - zero) : -1 };
}

function allLayers(code, rows, token, choice, zero) {
  let [sum, count, strength, layer, best] = [0, 0, -1, 0, ABSENT];
  for (let row = 0; row < rows; row++) {
    const own = code(row, token);
    if (own > FLAT) {
      if (count === 0 && own < best) best = own;
      continue;
    }
    const colour = own === FLAT ? zero : own;
    if (Math.abs(colour - zero) > strength) [strength, layer, best] = [Math.abs(colour - zero), row, own];
    sum += colour;
    count++;
  }
  if (choice === "max" || strength <= 0) return { code: best, layer, strength: best < FLAT ? strength : -1 };
  const mean = Math.round(sum / count);
  return { code: mean, layer, strength: Math.abs(mean - zero) };
}
