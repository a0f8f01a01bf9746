/** What a column of a heatmap is: a token, or a unit of several; how each is named, known again, and how wide it is. Pure. */

const MOST_WIDE = 6; // tokens: wider columns would push the others out of view

/** Where it stands, as text: `5`, `3-5`, `3,7`. */
export function placed({ where, position }) {
  return where ?? String(position);
}

/** The same with its noun: "position 5", "positions 3-5". */
export function positionWords(token) {
  return `${token.count > 1 ? "positions" : "position"} ${placed(token)}`;
}

/** What is known again at another step, in another run and in the address: a position, or several as text. */
export function keyOf({ where, position }) {
  return where === undefined || /^\d+$/.test(where) ? position : where;
}

/** Keys in the order of their first positions. */
export function inOrder(keys) {
  return [...keys].sort((one, other) => Number.parseInt(one, 10) - Number.parseInt(other, 10));
}

/** Is it left out of the scale? With position 0 goes every unit that holds it, as it holds the attention sink. */
export function leftOut(excluded, token) {
  return excluded.has(keyOf(token)) || (token.position === 0 && excluded.has(0));
}

/** 1 for each column that is left out. */
export function leftOutMask(excluded, tokens) {
  return Uint8Array.from(tokens, (token) => (leftOut(excluded, token) ? 1 : 0));
}

/** What is left out, with a column more or less. */
export function leftOutToggled(excluded, token) {
  const changed = new Set(excluded);
  if (!leftOut(excluded, token)) return changed.add(keyOf(token));
  changed.delete(keyOf(token));
  if (token.position === 0) changed.delete(0);
  return changed;
}

/** The index of each key at another step; -1 for none. */
export function foundAgain(keys, tokens) {
  const places = new Map(tokens.map((token, index) => [keyOf(token), index]).reverse()); // of two alike the first
  return keys.map((key) => places.get(key) ?? -1);
}

const known = new WeakMap();

/**
 * Where columns begin and the last one ends, in cells; a column is as many wide as it has tokens, within bounds.
 * @param {object[]} tokens
 * @returns {Int32Array|null} null where each is one cell wide
 */
export function startsOf(tokens) {
  if (!known.has(tokens)) known.set(tokens, tokens.some(({ count }) => count > 1) ? summed(tokens) : null);
  return known.get(tokens);
}

function summed(tokens) {
  const starts = new Int32Array(tokens.length + 1);
  tokens.forEach(({ count = 1 }, index) => (starts[index + 1] = starts[index] + Math.min(MOST_WIDE, count)));
  return starts;
}

/** Where a cell begins, in cells of one size. */
export function startAt(starts, index) {
  return starts ? starts[index] : index;
}

/** And its middle. */
export function middleAt(starts, index) {
  return (startAt(starts, index) + startAt(starts, index + 1)) / 2;
}

/** The cell at a place; one that is no cell's before the first or behind the last. */
export function indexAt(starts, place) {
  if (!starts) return Math.floor(place);
  if (place < 0) return -1;
  let [low, high] = [0, starts.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (starts[middle] <= place) low = middle;
    else high = middle - 1;
  }
  return low;
}
