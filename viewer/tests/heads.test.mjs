import assert from "node:assert/strict";
import { test } from "node:test";

import { cellOf, gridCodes, layerTops } from "../view/heads.js";
import { patchGrid, regionOf } from "../view/images.js";
import { ABSENT, FLAT, UNDEFINED } from "../view/scale.js";
import { sortedBy } from "../view/top.js";
import { imagesResult } from "./fake_images.mjs";

const measured = (values, rows, more = {}) => ({
  matrix: { values: Float32Array.from(values), rows, cols: values.length / rows, absent: null },
  norms: null,
  floors: Array(rows).fill(null),
  ...more,
});

test("each layer's top token: not an excluded one, not below the floor", () => {
  const one = measured([9, 1, 3, NaN, 2, 1, 0, 0, 0], 3, { floors: [null, 2.5, null] });
  assert.deepEqual(layerTops(one, Uint8Array.of(1, 0, 0)), [
    { token: 2, value: 3 },
    { token: -1, value: NaN },
    { token: -1, value: NaN },
  ]);
  assert.deepEqual(layerTops(measured([1, 2], 1, { norms: [NaN] }), new Uint8Array(2)), [{ token: -1, value: NaN }]);
});

test("what a cell is where it is no distance to colour", () => {
  const one = measured([1, NaN, 0.5, 4], 2, { floors: [1, null], norms: [1, 0.5] });
  one.matrix.absent = Uint8Array.of(0, 0, 1, 0);
  assert.deepEqual(cellOf(one, 0, 0), { token: 0, value: 1, code: FLAT });
  assert.deepEqual(cellOf(one, 0, 1), { token: 1, value: NaN, code: UNDEFINED });
  assert.deepEqual(cellOf(one, 1, 0), { token: 0, value: NaN, code: ABSENT });
  assert.deepEqual(cellOf(one, 1, 1), { token: 1, value: 8 });
});

test("a grid's colours are shares of its layer's largest, or of all", () => {
  const grid = [
    [
      { token: 0, value: 1 },
      { token: 0, value: 2 },
    ],
    [
      { token: 0, value: 4 },
      { token: -1, value: NaN },
    ],
  ];
  assert.deepEqual(gridCodes(grid, "layer", "linear"), [
    [128, 255],
    [255, FLAT],
  ]);
  assert.deepEqual(gridCodes(grid, "picture", "linear"), [
    [64, 128],
    [255, FLAT],
  ]);
  assert.deepEqual(gridCodes([], "layer", "linear"), []);
});

test("a patch's token by its row and column", () => {
  const tokens = imagesResult().tokens(0);
  const grid = patchGrid(tokens, 0, [3, 4]);
  assert.deepEqual([...grid.tokens], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
  assert.deepEqual(patchGrid(tokens, 1, null), { rows: 2, cols: 2, tokens: Int32Array.of(15, 16, 17, 18) });
  assert.deepEqual([...patchGrid(tokens, 5, [1, 2]).tokens], [-1, -1]);
  assert.equal(patchGrid(tokens, 5, null).tokens.length, 0);
});

test("a unit's patches by its positions, each in its own image, and none outside of it", () => {
  const { tokens } = imagesResult();
  const texts = tokens(0).map(({ text }) => text);
  const stretches = [[[1, 3]], [[3, 3]], [[13, 16]], [[90, 99_999_999]]];
  const units = stretches.map((ranges) => ({ ranges }));
  assert.deepEqual([...regionOf(units, texts, 0, { rows: 3, cols: 4 })], [0, 1, 11]);
  assert.deepEqual([...regionOf(units, texts, 1, { rows: 2, cols: 2 })], [0, 1]);
  assert.deepEqual([...regionOf(units, texts, 0, { rows: 1, cols: 1 })], [0]);
  assert.deepEqual([...regionOf(units, texts, 2, { rows: 9, cols: 9 })], []);
});

test("cells are sorted by any column, both ways", () => {
  const tokens = [
    { text: " b", position: 4 },
    { text: "A", position: 9 },
  ];
  const cells = [
    { value: 3, layer: 1, variant: 2, token: 0 },
    { value: 2, layer: 0, variant: 2, token: 1 },
    { value: 1, layer: 1, variant: 0, token: 1 },
  ];
  const order = (column, down) => sortedBy(cells, column, down, tokens).map(({ value }) => value);
  assert.deepEqual(order("value", true), [3, 2, 1]);
  assert.deepEqual(order("layer", false), [2, 3, 1]);
  assert.deepEqual(order("variant", false), [1, 3, 2]);
  assert.deepEqual(order("token", false), [2, 1, 3]);
  assert.deepEqual(order("position", true), [2, 1, 3]);
});
