import assert from "node:assert/strict";
import { test } from "node:test";

import { csvPieces, quoted, shortest } from "../export/csv.js";
import { randomNumbers } from "./fake.mjs";

test("numbers are the shortest that read back as the same float32", () => {
  const written = [0, 1, 0.1, -0.25, 1e-7, 3.4028235e38, 0.0068857367, 16777216, 2.7110886e-7];
  assert.deepEqual(
    written.map((value) => shortest(Math.fround(value))),
    written.map(String),
  );
  assert.equal(shortest(NaN), "");
  assert.equal(shortest(Math.fround(1e-45)), "1e-45");
  const random = randomNumbers(5);
  for (let turn = 0; turn < 20_000; turn++) {
    const value = Math.fround(random() * 10 ** (random() * 60 - 40));
    const text = shortest(value);
    assert.equal(Math.fround(Number(text)), value);
    assert.ok(text.replace(/e.*/, "").replace(/^0\.0*|\./, "").length <= 9 || value > 1e9, text);
  }
});

test("text is quoted, and quotes in it are doubled", () => {
  assert.equal(quoted(' say "it"\n'), '" say ""it""\n"');
});

const tokens = [
  { text: 'a"b', position: 0, type: "text", image: null, row: null, col: null },
  { text: ",\r\n", position: 1, type: "text", image: null, row: null, col: null },
];
const view = {
  step: 2,
  variant: "Head_1",
  layers: [0, 5],
  tokens,
  more: null,
  absent: null,
  l2: { values: Float32Array.of(0.1, NaN, 0, 4) },
  cosine: { values: Float32Array.of(1, 2, 0.5, 1e-10) },
};

test("one line for each layer and token", () => {
  assert.equal(
    csvPieces(view).join(""),
    [
      '"generation_step","layer","token_masked","token_position","variant","l2_distance","cosine_distance"',
      '2,0,"a""b",0,"Head_1",0.1,1',
      '2,0,",\r\n",1,"Head_1",,2',
      '2,5,"a""b",0,"Head_1",0,0.5',
      '2,5,",\r\n",1,"Head_1",4,1e-10',
      "",
    ].join("\r\n"),
  );
});

test("absent rows are not written, a further column is", () => {
  const more = { name: "relative_distance", values: Float32Array.of(0.5, 0, 0.25, -1) };
  const lines = csvPieces({ ...view, absent: Uint8Array.of(0, 1, 0, 1), more })
    .join("")
    .split("\r\n");
  assert.deepEqual(lines, [
    '"generation_step","layer","token_masked","token_position","variant","l2_distance","cosine_distance","relative_distance"',
    '2,0,"a""b",0,"Head_1",0.1,1,0.5',
    '2,5,"a""b",0,"Head_1",0,0.5,0.25',
    "",
  ]);
});

test("float64 keeps its digits, and a vision token its place", () => {
  const image = { text: "img0[1,0]", position: 7, type: "vision", image: 0, row: 1, col: 0 };
  const pieces = csvPieces({
    ...view,
    layers: [1],
    tokens: [image],
    l2: { values: Float64Array.of(1 / 3) },
    cosine: null,
  });
  assert.deepEqual(pieces, [
    '"generation_step","layer","token_masked","token_position","variant","l2_distance","token_type","image_index","patch_row","patch_col"\r\n',
    '2,1,"img0[1,0]",7,"Head_1",0.3333333333333333,"vision",0,1,0\r\n',
  ]);
});
