/** Two heatmaps beside each other: layers meet by their number, tokens by their position, units by all of theirs. Pure. */

import { keyOf, placed } from "./columns.js";
import { rowName } from "./words.js";

/**
 * @param {{tokens: object[], layers: number[]}} here
 * @param {{tokens: object[], layers: number[]}} other
 * @returns {{tokenOf: Int32Array, layerOf: Int32Array, differing: number[], onlyHere: number, onlyThere: number,
 *   layersOnlyHere: number, layersOnlyThere: number, otherTokens: object[]}}
 *   `tokenOf`, `layerOf`: for each token and layer here the index there, -1 for none; `differing`: indices here of
 *   tokens whose text is another one there
 */
export function aligned(here, other) {
  const tokenOf = matched(here.tokens.map(keyOf), other.tokens.map(keyOf));
  const layerOf = matched(here.layers, other.layers);
  const differing = here.tokens.flatMap(({ text }, token) =>
    tokenOf[token] >= 0 && other.tokens[tokenOf[token]].text !== text ? [token] : [],
  );
  const found = (places) => places.reduce((count, place) => count + (place >= 0 ? 1 : 0), 0);
  const [tokens, layers] = [found(tokenOf), found(layerOf)];
  return {
    tokenOf,
    layerOf,
    differing,
    otherTokens: other.tokens,
    onlyHere: tokenOf.length - tokens,
    onlyThere: other.tokens.length - tokens,
    layersOnlyHere: layerOf.length - layers,
    layersOnlyThere: other.layers.length - layers,
  };
}

function matched(ones, others) {
  const place = new Map(others.map((value, index) => [value, index]));
  return Int32Array.from(ones, (value) => place.get(value) ?? -1);
}

/**
 * Here minus there, as a picture. Absent where either has no row; flat below both floors together.
 * @param {object} here   a picture of view.js
 * @param {object} other
 * @param {ReturnType<typeof aligned>} alignment
 */
export function difference(here, other, { tokenOf, layerOf }) {
  const { rows, cols } = here;
  const values = new Float64Array(rows * cols).fill(NaN);
  const absent = new Uint8Array(rows * cols);
  for (let layer = 0, place = 0; layer < rows; layer++) {
    const start = layerOf[layer] * other.cols;
    for (let token = 0; token < cols; token++, place++) {
      const there = start < 0 || tokenOf[token] < 0 ? -1 : start + tokenOf[token];
      if (there < 0 || here.absent?.[place] || other.absent?.[there]) absent[place] = 1;
      else values[place] = here.values[place] - other.values[there];
    }
  }
  const floors = here.floors.map((floor, layer) =>
    bothFloors(floor, layerOf[layer] < 0 ? null : other.floors[layerOf[layer]]),
  );
  return { ...here, values, absent, floors };
}

/** Two values, each uncertain by its floor, differ by no less than both together. */
function bothFloors(one, other) {
  return one === null && other === null ? null : (one ?? 0) + (other ?? 0);
}

/** What does not meet, in sentences; "" where all does. */
export function mismatch({ tokens, place }, alignment) {
  const row = rowName(place);
  const { differing, onlyHere, onlyThere, layersOnlyHere, layersOnlyThere } = alignment;
  const some =
    differing
      .slice(0, 8)
      .map((token) => placed(tokens[token]))
      .join(", ") + (differing.length > 8 ? ", …" : "");
  const count = (number, one, more) => `${number} ${number === 1 ? one : more}`;
  return [
    differing.length > 0 &&
      `The tokens at ${count(differing.length, "position differs", "positions differ")}: ${some}.`,
    onlyHere > 0 && `${count(onlyHere, "position is", "positions are")} not in the other.`,
    onlyThere > 0 && `The other has ${count(onlyThere, "position", "positions")} more.`,
    layersOnlyHere > 0 && `${count(layersOnlyHere, `${row} is`, `${row}s are`)} not in the other.`,
    layersOnlyThere > 0 && `The other has ${count(layersOnlyThere, row, `${row}s`)} more.`,
  ]
    .filter(Boolean)
    .join(" ");
}
