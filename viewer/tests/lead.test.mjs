import assert from "node:assert/strict";
import { test } from "node:test";

import { rowMaxima } from "../view/scale.js";
import { strongestCell } from "../view/lead.js";

function found(rows, { floors = rows.map(() => null), excluded = rows[0].map(() => 0), signed = false } = {}) {
  const [values, excludedMask] = [Float32Array.from(rows.flat()), Uint8Array.from(excluded)];
  const picture = { values, rows: rows.length, cols: rows[0].length };
  return strongestCell({
    ...picture,
    floors,
    excludedMask,
    scale: { rowMax: rowMaxima(picture, excludedMask, signed) },
  });
}

test("the strongest cell is neither left out nor at its layer's noise floor", () => {
  const rows = [
    [90, 1, 8],
    [90, 4, NaN],
  ];
  assert.deepEqual(found(rows, { excluded: [1, 0, 0] }), { layer: 0, token: 2, value: 8 });
  assert.deepEqual(found(rows, { excluded: [1, 0, 0], floors: [8, null] }), { layer: 1, token: 1, value: 4 });
});

test("of differences it is the farthest from 0; where there is none, null", () => {
  assert.deepEqual(
    found(
      [
        [1, -3],
        [2, 0],
      ],
      { signed: true },
    ),
    { layer: 0, token: 1, value: -3 },
  );
  assert.equal(found([[0, NaN]]), null);
});
