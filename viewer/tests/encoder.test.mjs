import assert from "node:assert/strict";
import { test } from "node:test";

import { csvPieces } from "../export/csv.js";
import { csvOf, pictureOf } from "../export/picture.js";
import { makeResult } from "../read/result.js";
import { decodeState, encodeState, placeIn } from "../view/hash.js";
import { DEFAULTS, currentView, forResult } from "../view/state.js";
import { measuredWords } from "../view/view.js";
import { fakeResult } from "./fake.mjs";

const CELLS = 6;

/** A run of the encoder on a picture of 2 x 3 cells: 2 blocks, Full and one head; `each` where every measured cell is kept. */
function encoderResult({ measured = null, each = true, spoil = (kept) => kept } = {}) {
  const variants = ["Full", "Head_0"];
  const words = Array.from({ length: CELLS }, (_, cell) => `img0[${Math.floor(cell / 3)},${cell % 3}]`);
  const places = words.flatMap((_, cell) => [0, Math.floor(cell / 3), cell % 3]);
  const tokens = [{ positions: Int32Array.from(words.keys()), codes: Int32Array.from(words.keys()), places: Int32Array.from(places) }];
  const l2 = Float32Array.from({ length: 2 * CELLS }, (_, at) => 1 + at);
  const block = { l2, cosine: l2.map((value) => value / 100), absent: null };
  const kept = Float32Array.from({ length: 2 * CELLS * CELLS }, (_, at) => 100 + at);
  const float32 = Buffer.from(kept.buffer).toString("base64");
  const run = {
    schema_version: 1, status: "complete", part: "encoder", measured_position: measured, layers: [0, 1], variants, steps: [],
    images: [{ width: 48, height: 32, resized: [32, 48], grid: [2, 3], uri: null }],
    ...(each ? { each_measured: spoil({ variant: "Full", distance: "l2_distance", shape: [2, CELLS, CELLS], float32 }) } : {}),
  };
  const table = { steps: [0], variants, layers: [0, 1], words, tokens, blocks: [[block, block]], rows: 2 * 2 * CELLS };
  return makeResult(table, { id: "encoder", name: "encoder", sources: [], run, notes: [] });
}

const viewOf = (result, more = {}) => currentView({ ...DEFAULTS, result, ...more });

test("a cell that is asked for has its own distances, of Full's L2 alone", () => {
  const result = encoderResult();
  assert.deepEqual([...viewOf(result).values], [...result.peek(0, 0, "l2").values]);
  const own = viewOf(result, { at: 2 });
  assert.deepEqual([...own.values], [0, 1].flatMap((layer) => Array.from({ length: CELLS }, (_, cell) => 100 + (layer * CELLS + 2) * CELLS + cell)));
  assert.equal(measuredWords(own.place), "measured at img0[0,2]");
  for (const more of [{ variant: 1 }, { metric: "cosine" }]) {
    const view = viewOf(result, { at: 2, ...more });
    assert.equal(view.place.at, null);
    assert.equal(measuredWords(view.place), "mean over all measured cells");
  }
  assert.notEqual(viewOf(result, { at: 3 }).values[0], own.values[0]);
});

test("what is kept wrongly is as if it were not there", () => {
  assert.equal(encoderResult({ each: false }).each, null);
  for (const wrong of [{ shape: [2, 6, 5] }, { shape: [3, 6, 6] }, { shape: "2" }, { float32: 7 }, { float32: "AAAA" }, { variant: "Attn" }, { distance: "x" }]) {
    assert.equal(encoderResult({ spoil: (kept) => ({ ...kept, ...wrong }) }).each, null, JSON.stringify(wrong));
  }
  assert.equal(fakeResult().each, null);
});

test("it is told where the encoder was measured, and of a decoder nothing", () => {
  assert.equal(measuredWords(viewOf(encoderResult({ measured: 4, each: false })).place), "measured at img0[1,1]");
  assert.equal(measuredWords(viewOf(encoderResult({ each: false })).place), "mean over all measured cells");
  assert.equal(measuredWords(viewOf(fakeResult()).place), "");
});

test("the first position is left out of a prompt's scale, and not where it is a picture's cell", () => {
  const [encoder, decoder] = [encoderResult(), fakeResult()];
  const start = { ...DEFAULTS, ...forResult(DEFAULTS, encoder) };
  assert.deepEqual([...start.excluded], []);
  assert.deepEqual([...forResult({ ...start, excluded: new Set([3]) }, decoder).excluded], [0, 3]);
  assert.deepEqual([...forResult({ ...DEFAULTS, result: decoder, excluded: new Set() }, fakeResult({ name: "b" })).excluded], []);
});

test("the cell asked for is in the address, and goes with its run", () => {
  const result = encoderResult();
  const text = encodeState({ ...DEFAULTS, result, at: 5 });
  assert.match(text, /(^|&)at=5(&|$)/);
  assert.equal(placeIn(result, decodeState(text).place).at, 5);
  assert.equal(placeIn(result, decodeState("run=encoder&at=99").place).at, null);
  assert.equal("at" in placeIn(fakeResult(), decodeState("at=1").place), false);
  assert.equal(forResult({ ...DEFAULTS, result, at: 5 }, result).at, 5);
  assert.equal(forResult({ ...DEFAULTS, result, at: 5 }, fakeResult()).at, null);
});

test("exports say and hold what is shown", () => {
  const result = encoderResult();
  const state = { ...DEFAULTS, result, at: 2, excluded: new Set() };
  const view = currentView(state);
  assert.equal(pictureOf(state, view).title, "encoder: measured at img0[0,2], Full");
  const [head, first] = csvPieces(csvOf(state, view)).join("").split("\r\n");
  assert.match(head, /"variant","l2_distance_at_2","token_type"/);
  assert.equal(Number(first.split(",")[6]), view.values[0]);
  assert.match(csvPieces(csvOf({ ...state, at: null }, viewOf(result))).join(""), /"l2_distance","cosine_distance"/);
});
