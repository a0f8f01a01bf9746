import assert from "node:assert/strict";
import { test } from "node:test";

import { csvPieces } from "../export/csv.js";
import { csvOf, fileStem, pictureOf } from "../export/picture.js";
import { svgText } from "../export/svg.js";
import { DEFAULTS, currentView } from "../view/state.js";
import { fakeResult } from "./fake.mjs";

const shown = (result, more = {}) => {
  const state = { ...DEFAULTS, result, ...more };
  return [state, currentView(state)];
};

test("a picture says what it shows", () => {
  const [state, view] = shown(fakeResult(), { variant: 2, step: 1 });
  const picture = pictureOf(state, view);
  assert.equal(picture.title, "fake: step 1, Head_0");
  assert.match(
    picture.caption,
    /^L2 distance when a token is masked\. Each layer is scaled by its own largest; square root, from 0\. Left out of the scale: position 0\. Model: fake\. Prompt: The capital of France is\. Next token: "\."\.$/,
  );
  assert.equal(picture.shade(0, 0), "excluded");
  assert.equal(typeof picture.shade(0, 1), "number");
  assert.ok(
    svgText(picture, null).includes("&lt;/script&gt;") || picture.tokens.every(({ text }) => text !== "</script>"),
  );
});

test("the view's CSV has the table's numbers, and the relative distance where it is shown", () => {
  const [state, view] = shown(fakeResult(), { metric: "relative" });
  const lines = csvPieces(csvOf(state, view)).join("").split("\r\n");
  assert.equal(lines[0].split(",").at(-1), '"relative_distance"');
  assert.equal(lines.length, 1 + 3 * 6 + 1);
  const fields = lines[2].split(",");
  const [l2, relative] = [Number(fields[5]), Number(fields[7])];
  assert.equal(Math.fround(l2), state.result.peek(0, 0, "l2").values[1]);
  assert.ok(Math.abs(relative - l2 / state.result.norm(0, 0, 0)) < 1e-6);
  assert.equal(
    csvPieces(csvOf(...shown(fakeResult())))
      .join("")
      .split("\r\n")[0]
      .split(",").length,
    7,
  );
});

test("of a difference the CSV has the signed difference alone", () => {
  const compare = { kind: "variant", other: 1, mode: "difference" };
  const [state, view] = shown(fakeResult(), { compare });
  const [head, first] = csvPieces(csvOf(state, view)).join("").split("\r\n");
  assert.match(head, /"variant","l2_distance_difference"$/);
  const [one, other] = [0, 1].map((variant) => state.result.peek(0, variant, "l2").values[0]);
  assert.equal(Math.fround(Number(first.split(",").at(-1))), Math.fround(one - other));
  assert.ok(first.split(",").at(-1).length < 14);
  assert.match(pictureOf(state, view).caption, /minus that of Attn/);
});

test("a file's name is one on every system", () => {
  const [state] = shown(fakeResult({ name: '../a:b*"c' }));
  assert.equal(fileStem(state), "a_b_c_step0_Full_l2");
  assert.equal(
    fileStem({ ...state, compare: { kind: "step", other: 1, mode: "difference" } }),
    "a_b_c_step0_Full_l2_difference_step_1",
  );
});
