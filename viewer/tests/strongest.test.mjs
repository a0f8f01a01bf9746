import assert from "node:assert/strict";
import { test } from "node:test";

import { strongestOf } from "../view/strongest.js";
import { randomNumbers } from "./fake.mjs";

test("the same cells as sorting all of them", () => {
  const random = randomNumbers(7);
  const rows = 9,
    cols = 211;
  const matrices = [0, 1, 2].map(() => ({ values: Float32Array.from({ length: rows * cols }, random), rows, cols }));
  const selection = strongestOf(50);
  matrices.forEach((matrix, variant) => selection.add(matrix, variant));
  const all = matrices.flatMap(({ values }, variant) =>
    Array.from(values, (value, place) => ({ value, variant, layer: Math.floor(place / cols), token: place % cols })),
  );
  all.sort((a, b) => b.value - a.value || a.variant - b.variant || a.layer - b.layer || a.token - b.token);
  assert.deepEqual(selection.list(), all.slice(0, 50));
});

test("undefined, excluded and floor cells and zeros are no candidates", () => {
  const selection = strongestOf(10);
  const values = Float32Array.of(9, NaN, 2, 1, 0, 0.5, 3, 4);
  selection.add({ values, rows: 2, cols: 4 }, 3, { floors: [1, null], excluded: [1, 0, 0, 0] });
  assert.deepEqual(
    selection.list().map(({ value, layer, token }) => [value, layer, token]),
    [
      [4, 1, 3],
      [3, 1, 2],
      [2, 0, 2],
      [0.5, 1, 1],
    ],
  );
});

test("norms make layers relative, also to a norm that is unknown", () => {
  const selection = strongestOf(10);
  selection.add({ values: Float32Array.of(1, 2, 4, 8), rows: 2, cols: 2 }, 0, { norms: [0.5, NaN] });
  assert.deepEqual(
    selection.list().map(({ value }) => value),
    [4, 2],
  );
});

test("nothing gives nothing, and equals keep the first", () => {
  assert.deepEqual(strongestOf(5).list(), []);
  const selection = strongestOf(2);
  selection.add({ values: Float32Array.of(1, 1, 1), rows: 1, cols: 3 }, 0);
  assert.deepEqual(
    selection.list().map(({ token }) => token),
    [0, 1],
  );
});

test("17 variants of 16,000 tokens in 64 layers take well under a second", () => {
  const random = randomNumbers(3);
  const matrix = { values: Float32Array.from({ length: 16_000 * 64 }, random), rows: 64, cols: 16_000 };
  const selection = strongestOf(50);
  const start = performance.now();
  for (let variant = 0; variant < 17; variant++) selection.add(matrix, variant, { excluded: new Uint8Array(16_000) });
  assert.ok(performance.now() - start < 1000, `${performance.now() - start} ms`);
});
