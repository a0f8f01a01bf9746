import assert from "node:assert/strict";
import { test } from "node:test";

import { csvPieces } from "../export/csv.js";
import { csvOf, fileStem, pictureOf } from "../export/picture.js";
import { svgText } from "../export/svg.js";
import { makeResult } from "../read/result.js";
import { decodeState, encodeState, placeIn } from "../view/hash.js";
import { DEFAULTS, currentView, forResult } from "../view/state.js";
import { comparable } from "../view/compare.js";
import { spoken } from "../view/cell.js";
import { cellChosen, encoderNote } from "../view/images.js";
import { mapTitle } from "../view/title.js";
import { measuredApart, measuredWords, otherPlace, shownPlace } from "../view/view.js";
import { fakeResult } from "./fake.mjs";
import { imagesResult } from "./fake_images.mjs";

const CELLS = 6;

/** A run of the encoder on a picture of 2 x 3 cells: 2 blocks, Full and one head; `each` where every measured cell is kept. */
function encoderResult({
  measured = null,
  each = true,
  spoil = (kept) => kept,
  unread = [],
  record = true,
  id = "encoder",
} = {}) {
  const variants = ["Full", "Head_0"];
  const words = Array.from({ length: CELLS }, (_, cell) => `img0[${Math.floor(cell / 3)},${cell % 3}]`);
  const places = words.flatMap((_, cell) => [0, Math.floor(cell / 3), cell % 3]);
  const tokens = [
    { positions: Int32Array.from(words.keys()), codes: Int32Array.from(words.keys()), places: Int32Array.from(places) },
  ];
  const l2 = Float32Array.from({ length: 2 * CELLS }, (_, at) => 1 + at);
  const block = { l2, cosine: l2.map((value) => value / 100), absent: null };
  const kept = Float32Array.from({ length: 2 * CELLS * CELLS }, (_, at) => 100 + at);
  const float32 = Buffer.from(kept.buffer).toString("base64");
  const run = {
    schema_version: 1,
    status: "complete",
    part: "encoder",
    measured_position: measured,
    layers: [0, 1],
    variants,
    steps: [],
    images: [{ width: 48, height: 32, resized: [32, 48], grid: [2, 3], uri: null }],
    ...(each
      ? { each_measured: spoil({ variant: "Full", distance: "l2_distance", shape: [2, CELLS, CELLS], float32 }) }
      : {}),
  };
  const table = {
    steps: [0],
    variants,
    layers: [0, 1],
    words,
    tokens,
    blocks: [[block, block].map((one, variant) => (unread.includes(variant) ? null : one))],
    rows: 2 * 2 * CELLS,
  };
  return makeResult(table, { id, name: id, sources: [], run: record ? run : null, notes: [] });
}

const viewOf = (result, more = {}) => currentView({ ...DEFAULTS, result, ...more });

test("a cell that is asked for has its own distances, of Full's L2 alone", () => {
  const result = encoderResult();
  assert.deepEqual([...viewOf(result).values], [...result.peek(0, 0, "l2").values]);
  const own = viewOf(result, { at: 2 });
  assert.deepEqual(
    [...own.values],
    [0, 1].flatMap((layer) => Array.from({ length: CELLS }, (_, cell) => 100 + (layer * CELLS + 2) * CELLS + cell)),
  );
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
  for (const wrong of [
    { shape: [2, 6, 5] },
    { shape: [3, 6, 6] },
    { shape: "2" },
    { float32: 7 },
    { float32: "AAAA" },
    { variant: "Attn" },
    { distance: "x" },
  ]) {
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
  assert.deepEqual(
    [...forResult({ ...DEFAULTS, result: decoder, excluded: new Set() }, fakeResult({ name: "b" })).excluded],
    [],
  );
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

test("heading and note are of what is drawn, also before another variant is read", () => {
  const result = encoderResult({ unread: [1] });
  const state = { ...DEFAULTS, result, at: 2 };
  assert.equal(mapTitle(state), "L2 distance, Full, measured at img0[0,2]");
  const unread = { ...state, variant: 1 };
  assert.equal(currentView(unread), null);
  assert.equal(mapTitle(unread), "L2 distance, Head_0, mean over all measured cells");
  assert.equal(shownPlace(unread).at, null);
});

test("in a comparison no click asks for a cell, and no sentence says so", () => {
  const result = encoderResult();
  const state = { ...DEFAULTS, result, at: 2 };
  assert.match(
    encoderNote(state, currentView(state)),
    /Measured at img0\[0,2\], the patch with the white frame\. Click a patch for Full's/,
  );
  assert.deepEqual(cellChosen(state, 2), { at: null });
  assert.deepEqual(cellChosen({ ...state, variant: 1 }, 2), { at: 2, metric: "l2", variant: 0 });
  const compared = { ...state, compare: { kind: "variant", other: 1, mode: "difference" } };
  assert.deepEqual(cellChosen(compared, 4), {});
  assert.doesNotMatch(encoderNote(compared, currentView(compared)), /Click/);
});

test("a run of the encoder is compared with none of a decoder", () => {
  const [encoder, decoder] = [encoderResult(), fakeResult()];
  const state = (result, otherResult) => ({
    ...DEFAULTS,
    result,
    otherResult,
    compare: { kind: "run", other: otherResult.id, mode: "difference" },
  });
  assert.equal(otherPlace(state(encoder, decoder)), null);
  assert.equal(otherPlace(state(decoder, encoder)), null);
  assert.notEqual(otherPlace(state(decoder, fakeResult({ name: "b" }))), null);
  const entries = [
    { id: "encoder", part: "encoder" },
    { id: "fake", part: "decoder" },
    { id: "new", part: null },
  ];
  assert.deepEqual(
    comparable(entries, encoder).map(({ id }) => id),
    ["encoder", "new"],
  );
  assert.deepEqual(
    comparable(entries, decoder).map(({ id }) => id),
    ["fake", "new"],
  );
});

test("two runs measured at different cells are told apart", () => {
  const [one, mean] = [encoderResult({ measured: 5, each: false, id: "one" }), encoderResult({ id: "mean" })];
  const state = {
    ...DEFAULTS,
    result: one,
    otherResult: mean,
    compare: { kind: "run", other: "mean", mode: "difference" },
  };
  assert.equal(
    measuredApart(shownPlace(state), otherPlace(state)),
    "one: measured at img0[1,2]; mean: mean over all measured cells.",
  );
  assert.equal(
    mapTitle(state),
    "Difference of L2 distances, Full: one (measured at img0[1,2]) minus mean (mean over all measured cells)",
  );
  assert.match(pictureOf(state, currentView(state)).caption, /minus that of run mean \(mean over all measured cells\)/);
  const same = { ...state, otherResult: encoderResult({ measured: 5, each: false, id: "mean" }) };
  assert.equal(measuredApart(shownPlace(same), otherPlace(same)), "");
  assert.equal(mapTitle(same), "Difference of L2 distances, Full, measured at img0[1,2]: one minus mean");
});

test("a table alone with a picture's cell at position 0 is the encoder's, and its measured cell is not known", () => {
  const result = encoderResult({ record: false });
  assert.equal(result.part, "encoder");
  assert.equal(measuredWords(viewOf(result).place), "measured where its run file says");
  assert.equal(fakeResult({ run: false }).part, "decoder");
  assert.equal(imagesResult().part, "decoder");
});

test("the saved files of a cell have its name", () => {
  const result = encoderResult();
  const state = { ...DEFAULTS, result, at: 5 };
  assert.equal(fileStem(state), "encoder_step0_Full_l2_at_1_2");
  assert.equal(fileStem(state, currentView(state).place), "encoder_step0_Full_l2_at_1_2");
  assert.equal(fileStem({ ...state, variant: 1 }), "encoder_step0_Head_0_l2");
  assert.match(pictureOf(state, currentView(state)).caption, /^L2 distance when a cell is masked\./);
});

test("rows are blocks in an encoder's run, layers in a decoder's", () => {
  const [encoder, decoder] = [encoderResult(), fakeResult()].map((result) => ({
    state: { ...DEFAULTS, result },
    view: viewOf(result),
  }));
  assert.match(encoder.view.scale.sentence, /^Each block is scaled by its own largest/);
  assert.match(decoder.view.scale.sentence, /^Each layer is scaled by its own largest/);
  assert.match(spoken(encoder.state, encoder.view, 1, 2), /, block 1\. .* of the block's largest/);
  const picture = pictureOf(encoder.state, encoder.view);
  assert.doesNotMatch(JSON.stringify(picture), /layer's|Each layer/);
  assert.match(svgText(picture), />block</);
});

test("where the mean alone was kept, it is said why a click asks for no cell", () => {
  const note = (options) => {
    const result = encoderResult(options);
    return encoderNote({ ...DEFAULTS, result }, viewOf(result));
  };
  assert.match(note({ each: false }), /the measured cells are not kept apart in this run/);
  for (const options of [{}, { measured: 4, each: false }]) assert.doesNotMatch(note(options), /kept apart/);
});
