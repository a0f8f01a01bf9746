import assert from "node:assert/strict";
import test from "node:test";

import { paletteOf } from "../view/colours.js";
import { brief, grouped, percent } from "../view/numbers.js";
import { ABSENT, EXCLUDED, FLAT, UNDEFINED, createScale, rowMaxima } from "../view/scale.js";

const codes = (scale, rows, cols) =>
  Array.from({ length: rows }, (_, layer) => Array.from({ length: cols }, (_, token) => scale.code(layer, token)));

function scaleOf(rows, { excluded = [], floors = null, ...more } = {}) {
  const cols = rows[0].length;
  const mask = Uint8Array.from({ length: cols }, (_, token) => (excluded.includes(token) ? 1 : 0));
  return createScale({
    values: Float32Array.from(rows.flat()),
    rows: rows.length,
    cols,
    absent: null,
    floors: floors ?? rows.map(() => null),
    excluded: mask,
    normalise: "layer",
    curve: "linear",
    ...more,
  });
}

test("each layer by its own largest, from 0, without what is left out", () => {
  const scale = scaleOf(
    [
      [100, 0, 1, 2],
      [50, 10, 5, 0],
    ],
    { excluded: [0] },
  );
  assert.deepEqual(codes(scale, 2, 4), [
    [EXCLUDED, 0, 128, 255],
    [EXCLUDED, 255, 128, 0],
  ]);
  assert.deepEqual([...scale.rowMax], [2, 10]);
  assert.equal(scale.low, "0");
});

test("one scale for the picture; its end is said", () => {
  const scale = scaleOf(
    [
      [1, 2],
      [4, 0],
    ],
    { normalise: "picture" },
  );
  assert.deepEqual(codes(scale, 2, 2), [
    [64, 128],
    [255, 0],
  ]);
  assert.equal(scale.high, "4");
});

test("across steps by the maxima given; what is beyond them is the last colour", () => {
  const scale = scaleOf(
    [
      [1, 2],
      [4, 12],
    ],
    { normalise: "steps", steps: { maxima: Float64Array.of(4, 8), source: "by the run file" } },
  );
  assert.deepEqual(codes(scale, 2, 2), [
    [64, 128],
    [128, 255],
  ]);
  assert.match(scale.sentence, /by the run file/);
});

test("curves start at 0, end at the largest and rise", () => {
  const values = [0, 1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.5, 1];
  for (const curve of ["linear", "sqrt", "log"]) {
    const scale = scaleOf([values], { curve });
    const places = values.map((value) => scale.position(0, value));
    assert.equal(places[0], 0);
    assert.equal(places.at(-1), 1);
    assert.ok(
      places.every((place, index) => index === 0 || place > places[index - 1]),
      curve,
    );
  }
  const log = scaleOf([values], { curve: "log" });
  assert.ok(Math.abs(log.position(0, 0.01) - 0.6) < 0.01);
  assert.ok(log.position(0, 1e-6) < 0.01);
});

test("at or below the noise floor is flat; NaN is undefined, and no part of the scale", () => {
  const scale = scaleOf([[0.5, 1, NaN, 2, 0]], { floors: [1] });
  assert.deepEqual(codes(scale, 1, 5), [[FLAT, FLAT, UNDEFINED, 255, FLAT]]);
  assert.deepEqual(codes(scaleOf([[0, 1]]), 1, 2), [[0, 255]]);
});

test("absent before all else", () => {
  const scale = createScale({
    values: Float32Array.of(NaN, 1),
    rows: 1,
    cols: 2,
    absent: Uint8Array.of(1, 0),
    floors: [null],
    excluded: Uint8Array.of(1, 0),
    normalise: "layer",
    curve: "sqrt",
  });
  assert.deepEqual(codes(scale, 1, 2), [[ABSENT, 255]]);
});

test("pictures with nothing to scale by have whole colours all the same", () => {
  for (const normalise of ["layer", "picture", "steps"]) {
    for (const curve of ["linear", "sqrt", "log"]) {
      const options = { normalise, curve, steps: { maxima: Float64Array.of(NaN), source: "" } };
      assert.deepEqual(codes(scaleOf([[0, 0, 0]], options), 1, 3), [[0, 0, 0]]);
      assert.deepEqual(codes(scaleOf([[5, 5]], options), 1, 2), [[255, 255]]);
      assert.deepEqual(codes(scaleOf([[NaN]], options), 1, 1), [[UNDEFINED]]);
      assert.deepEqual(codes(scaleOf([[3]], options), 1, 1), [[255]]);
      assert.deepEqual(codes(scaleOf([[3]], { ...options, excluded: [0] }), 1, 1), [[EXCLUDED]]);
      assert.deepEqual(codes(scaleOf([[Infinity, 1]], options), 1, 2)[0].map(Number.isInteger), [true, true]);
      assert.doesNotMatch(scaleOf([[NaN]], options).high + scaleOf([[0]], options).high, /NaN|Infinity/);
    }
  }
});

test("differences are symmetric about 0", () => {
  const scale = scaleOf([[-4, -2, 0, 2, 4]], { signed: true });
  assert.deepEqual(codes(scale, 1, 5), [[1, 64, 128, 192, 255]]);
  assert.equal(scale.middle, "0");
  assert.deepEqual(codes(scaleOf([[0, 0]], { signed: true }), 1, 2), [[128, 128]]);
  assert.deepEqual(codes(scaleOf([[-1, 0.5, 3]], { signed: true, floors: [1] }), 1, 3), [[FLAT, FLAT, 255]]);
});

test("two pictures can share a scale", () => {
  const scale = scaleOf([[1, 2]], { also: Float64Array.of(4) });
  assert.deepEqual(codes(scale, 1, 2), [[64, 128]]);
  assert.deepEqual([...scale.rowMax], [2]);
});

test("a layer without a distance has no largest", () => {
  assert.deepEqual([...rowMaxima({ values: [NaN, NaN, 0, NaN], rows: 2, cols: 2 }, null)], [NaN, 0]);
});

test("palettes hold 256 colours and the grounds, and 0 of a difference is neutral", () => {
  for (const name of ["viridis", "cividis", "difference"]) {
    const { hex, packed, grounds } = paletteOf(name, false);
    assert.ok(hex.length === 256 && hex.every((colour) => /^#[0-9a-f]{6}$/.test(colour)));
    assert.equal(packed.length, 260);
    assert.equal(grounds.flat, hex[name === "difference" ? 128 : 0]);
  }
  assert.equal(paletteOf("viridis", false).hex[0], "#440154");
  assert.equal(paletteOf("cividis", true).hex[255], "#fee838");
  assert.equal(paletteOf("difference", true).hex[128], "#f7f7f7");
  assert.equal(paletteOf("viridis", false).packed[0] >>> 0, 0xff540144);
});

test("numbers are short, and shares honest about nearly all and nearly nothing", () => {
  assert.deepEqual(
    [0, 1, 1.23456, 1234567, 1e-9, -0.5, 1e8, NaN].map((value) => brief(value)),
    ["0", "1", "1.23", "1230000", "1e-9", "-0.5", "1e8", "undefined"],
  );
  assert.deepEqual([0, 999, 1000, 1234567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
  assert.deepEqual([1, 0.99976, 0.999999, 0.5, 0.0123, 0.0001, 1e-9, 0].map(percent), [
    "100 %",
    "99.98 %",
    "> 99.99 %",
    "50.0 %",
    "1.2 %",
    "0.01 %",
    "< 0.01 %",
    "0 %",
  ]);
});
