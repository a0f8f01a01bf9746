import assert from "node:assert/strict";
import { test } from "node:test";

import { excludedMask, headVariants, isCheap, isRead, peekMeasured, readMeasured } from "../view/measured.js";
import { fakeResult } from "./fake.mjs";
import { imagesResult } from "./fake_images.mjs";

const about = (result, more = {}) => ({ result, step: 1, variant: 0, metric: "l2", excluded: new Set([0]), ...more });

test("a relative distance is the distance over its layer's norm, its floor too", () => {
  const state = about(fakeResult(), { metric: "relative" });
  const { matrix, norms, floors } = peekMeasured(state, 2);
  assert.deepEqual(
    [...norms],
    [0, 1, 2].map((layer) => state.result.norm(1, 2, layer)),
  );
  assert.deepEqual(
    floors,
    [0, 1, 2].map((layer) => 1e-6 / norms[layer]),
  );
  assert.equal(matrix.values, state.result.peek(1, 2, "l2").values);
  const plain = peekMeasured({ ...state, metric: "cosine" }, 2);
  assert.deepEqual([plain.norms, plain.floors], [null, [1e-14, 1e-14, 1e-14]]);
});

test("without a run file a relative distance is undefined, and there is no floor", () => {
  const { norms, floors } = peekMeasured(about(fakeResult({ run: false }), { metric: "relative" }), 0);
  assert.ok(norms.every(Number.isNaN));
  assert.deepEqual(floors, [null, null, null]);
});

test("heads are found by their names, in order", () => {
  assert.deepEqual(headVariants(fakeResult({ heads: 3 })), [2, 3, 4]);
  assert.deepEqual(headVariants(fakeResult({ heads: 0 })), []);
});

test("excluded positions, not indices", () => {
  const state = about(fakeResult(), { excluded: new Set([0, 3]) });
  assert.deepEqual([...excludedMask(state)], [1, 0, 0, 1, 0, 0, 0]);
});

/** A result of which nothing is read yet, and what was asked of it. */
function unread(result) {
  const asked = [];
  const read = new Set();
  const key = (step, variant) => `${step} ${variant}`;
  return {
    asked,
    result: {
      ...result,
      peek: (step, variant, metric) => (read.has(key(step, variant)) ? result.peek(step, variant, metric) : null),
      async matrix(step, variant, metric) {
        asked.push(variant);
        read.add(key(step, variant));
        return result.matrix(step, variant, metric);
      },
    },
  };
}

test("variants that are not read yet are read one after the other, until it is given up", async () => {
  const { result, asked } = unread(fakeResult({ heads: 4 }));
  const state = about(result);
  assert.equal(isRead(state, 2), false);
  assert.equal(isCheap(state, [2]), true);
  assert.equal(isCheap(state, Array(20_000).fill(2)), false); // 420,000 cells, of which nothing is in memory
  const stop = new AbortController();
  const seen = [];
  await readMeasured(state, [2, 3, 4, 5], {
    signal: stop.signal,
    each(measured, variant, done) {
      seen.push([variant, done, measured.matrix.cols]);
      if (done === 3) stop.abort();
    },
  });
  assert.deepEqual(seen, [
    [2, 1, 7],
    [3, 2, 7],
    [4, 3, 7],
  ]);
  assert.deepEqual(asked.slice(0, 3), [2, 3, 4]);
  assert.equal(isCheap(state, [2, 3]), true);
});

test("the made-up images have their places", () => {
  const tokens = imagesResult().tokens(0);
  assert.equal(tokens.length, 2 + 12 + 1 + 4 + 1);
  assert.deepEqual(tokens[7], { text: "img0[1,1]", position: 7, type: "vision", image: 0, row: 1, col: 1 });
});
