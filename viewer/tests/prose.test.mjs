import assert from "node:assert/strict";
import { test } from "node:test";

import { ABSENT, EXCLUDED, FLAT, UNDEFINED } from "../view/scale.js";
import { chunks, folded, overLayers, withGaps } from "../view/prose.js";

const text = (words, from = 0) =>
  words.map((word, index) => ({ text: word, position: from + index, type: "text", image: null, row: null, col: null }));
const image = (index, rows, cols) =>
  Array.from({ length: rows * cols }, (_, patch) => ({
    text: `img${index}`,
    type: "vision",
    image: index,
    row: Math.floor(patch / cols),
    col: patch % cols,
  }));

test("an image's tokens are one piece", () => {
  const tokens = [...text(["a"]), ...image(0, 2, 3), ...text(["b"]), ...image(1, 1, 1), ...image(2, 2, 2)];
  assert.deepEqual(folded(tokens), [
    { token: 0 },
    { image: 0, from: 1, to: 7, rows: 2, cols: 3 },
    { token: 7 },
    { image: 1, from: 8, to: 9, rows: 1, cols: 1 },
    { image: 2, from: 9, to: 13, rows: 2, cols: 2 },
  ]);
  assert.deepEqual(folded(tokens.slice(0, 3), [{ grid: [12, 17] }])[1], {
    image: 0,
    from: 1,
    to: 3,
    rows: 12,
    cols: 17,
  });
  assert.deepEqual(folded([]), []);
});

test("chunks hold every piece once and end at lines' ends", () => {
  const tokens = text(Array.from({ length: 1000 }, (_, index) => (index % 70 === 69 ? ".\n" : "w")));
  const pieces = folded(tokens);
  const found = chunks(pieces, tokens, 100);
  assert.deepEqual(found.flat(), pieces);
  assert.ok(found.every((chunk) => chunk.length <= 100));
  assert.ok(found.slice(0, -1).every((chunk) => tokens[chunk.at(-1).token].text === ".\n"));
  const unbroken = text(Array(250).fill("w"));
  assert.deepEqual(
    chunks(folded(unbroken), unbroken, 100).map((chunk) => chunk.length),
    [100, 100, 50],
  );
  assert.deepEqual(chunks([], [], 100), []);
});

/** What overLayers says of every token of [layer][token]. */
const over = (cells, choice, zero) =>
  cells[0].map((_, token) => overLayers((layer, at) => cells[layer][at], cells.length, choice, zero)(token));
const codes = (...about) => over(...about).map(({ code }) => code);

test("over layers: one layer, the maximum, the mean", () => {
  const cells = [
    [10, 200, EXCLUDED, UNDEFINED, FLAT, 0],
    [30, FLAT, EXCLUDED, 50, FLAT, 0],
  ];
  assert.deepEqual(codes(cells, 1), cells[1]);
  assert.deepEqual(codes(cells, "max"), [30, 200, EXCLUDED, 50, FLAT, 0]);
  assert.deepEqual(
    over(cells, "max").map(({ layer }) => layer),
    [1, 0, 0, 1, 0, 0],
  );
  assert.deepEqual(
    over(cells, "max").map(({ strength }) => strength),
    [30, 200, -1, 50, -1, 0],
  );
  assert.deepEqual(codes(cells, "mean"), [20, 100, EXCLUDED, 50, FLAT, 0]);
  assert.deepEqual(codes([[ABSENT], [ABSENT]], "max"), [ABSENT]);
  assert.deepEqual(codes([[UNDEFINED], [ABSENT]], "mean"), [UNDEFINED]);
});

test("over layers of a signed scale: farthest from zero", () => {
  const cells = [
    [140, 128],
    [20, FLAT],
  ];
  assert.deepEqual(over(cells, "max", 128), [
    { code: 20, layer: 1, strength: 108 },
    { code: 128, layer: 0, strength: 0 },
  ]);
  assert.deepEqual(codes(cells, "mean", 128), [80, 128]);
});

test("what was not masked stands between the pieces, an image's patches as one word", () => {
  const token = (position, more) => ({ text: "x", position, type: "text", ...more });
  const texts = ["a", "img0[0,0]", "img0[0,1]", "img1[0,0]", "x", " b", "x", "!"];
  const tokens = [token(4), token(6)];
  assert.deepEqual(withGaps(folded(tokens), tokens, texts), [
    { gap: "a[img0][img1]", from: 0, to: 0 },
    { token: 0 },
    { gap: " b", from: 1, to: 1 },
    { token: 1 },
    { gap: "!", from: 2, to: 2 },
  ]);
  const every = texts.map((_, position) => token(position));
  assert.deepEqual(withGaps(folded(every), every, texts), folded(every));
  assert.deepEqual(withGaps(folded(tokens), tokens, []), folded(tokens));
});
