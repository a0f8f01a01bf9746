import assert from "node:assert/strict";
import { test } from "node:test";

import { pathOf, ticks } from "../view/chart.js";
import { pinStyle, pinToggled } from "../view/pins.js";

test("ticks are round and within", () => {
  assert.deepEqual(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(0, 24.9), [0, 5, 10, 15, 20]);
  assert.deepEqual(ticks(-0.3, 0.4), [-0.2, 0, 0.2, 0.4]);
  assert.deepEqual(ticks(0, 3e-15), [0, 1e-15, 2e-15, 3e-15]);
  assert.deepEqual(ticks(0, 0), [0]);
  assert.ok(ticks(0, 1e30).every(Number.isFinite));
});

test("a path breaks at undefined values", () => {
  const x = (place) => place * 10;
  const y = (value) => value;
  assert.equal(pathOf([1, 2, 3], x, y), "M0 1L10 2L20 3");
  assert.equal(pathOf([1, NaN, 3, 4], x, y), "M0 1h0.01M20 3L30 4");
  assert.equal(pathOf([NaN, NaN], x, y), "");
  assert.equal(pathOf([5], x, y), "M0 5h0.01");
});

test("pins go in and out", () => {
  assert.deepEqual(pinToggled([], 3), [3]);
  assert.deepEqual(pinToggled([3, 0], 3), [0]);
  assert.deepEqual(pinToggled([3], 0), [3, 0]);
  assert.equal(new Set(Array.from({ length: 8 }, (_, index) => JSON.stringify(pinStyle(index)))).size, 8);
});
