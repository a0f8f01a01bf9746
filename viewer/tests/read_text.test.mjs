import assert from "node:assert/strict";
import test from "node:test";

import { readTable } from "../read/table.js";
import { randomNumbers } from "./fake.mjs";
import { COLUMNS, HOSTILE, columnsOf, csvOf, inOrder, recordsOf, rowsIn, rowsOf, shuffled } from "./tables.mjs";

const blob = (text) => new Blob([text]);
const read = async (text, format, options) => (await readTable(blob(text), format, options)).table;
const ROWS = rowsOf();

/** Every text form of the same rows. */
function forms(rows) {
  const mixed = [
    "variant",
    "cosine_distance",
    "token_masked",
    "layer",
    "l2_distance",
    "token_position",
    "generation_step",
  ];
  return [
    ["csv", csvOf(rows)],
    ["csv", csvOf(rows, { order: mixed, index: true })],
    ["csv", csvOf(rows, { end: "\r\n", mark: "\ufeff" })],
    ["csv", csvOf(rows, { quoteAll: true, order: mixed, end: "\r\n" })],
    ["json", JSON.stringify(columnsOf(rows))],
    ["json", JSON.stringify(columnsOf(rows, mixed), null, 2)],
    ["json", JSON.stringify({ index: [[{ "]": "}" }]], ...columnsOf(rows), more: '\\"]' })],
    [
      "json",
      JSON.stringify(
        Object.fromEntries(Object.entries(columnsOf(rows)).map(([name, values]) => [name, { ...values }])),
      ),
    ],
    ["json", JSON.stringify(recordsOf(rows))],
    [
      "json",
      `\ufeff${JSON.stringify(
        recordsOf(rows, mixed).map((row, index) => ({ index, nested: { a: ["]"] }, ...row })),
        null,
        1,
      )}`,
    ],
  ];
}

test("every text form gives every row", async () => {
  for (const [format, text] of forms(ROWS))
    assert.deepEqual(rowsIn(await read(text, format)), inOrder(ROWS), text.slice(0, 80));
});

test("slices may end anywhere: within quotes, numbers, names, characters", async () => {
  const rows = rowsOf({ words: ['a""b,', "\n\r", " 🙂é", ""], steps: 1, layers: [3] });
  for (const [format, text] of forms(rows)) {
    for (const size of [1, 2, 3, 7, 64])
      assert.deepEqual(rowsIn(await read(text, format, { size })), inOrder(rows), `${size}: ${text.slice(0, 60)}`);
  }
});

test("hostile tokens stay what they are", async () => {
  const rows = rowsOf({ words: HOSTILE });
  for (const [format, text] of forms(rows)) assert.deepEqual(rowsIn(await read(text, format)), inOrder(rows));
});

test("a lone carriage return that pandas left without quotes is a token", async () => {
  const text = csvOf(rowsOf({ words: ["a", "\r", "b"] }))
    .replaceAll('"\r"', "\r")
    .replaceAll('"a"', "a");
  assert.deepEqual(rowsIn(await read(text, "csv")), inOrder(rowsOf({ words: ["a", "\r", "b"] })));
});

test("rows in any order give the same table, filtered ones the rest", async () => {
  const random = randomNumbers(3);
  const rows = rowsOf({ steps: 3, layers: [2, 5, 11], words: ["a", "b", "c", "d", "e"] });
  for (let round = 0; round < 5; round++) {
    const some = shuffled(rows, random).slice(round * 10);
    for (const [format, text] of forms(some)) {
      const table = await read(text, format);
      assert.deepEqual(rowsIn(table), inOrder(some));
      assert.equal(table.rows, some.length);
    }
  }
});

test("absent rows are marked and undefined ones are not", async () => {
  const rows = [
    [0, 4, "a", 0, "Full", null, null],
    [0, 9, "c", 7, "Full", 0, 0],
  ];
  const table = await read(csvOf(rows), "csv");
  assert.deepEqual([...table.blocks[0][0].absent], [0, 1, 1, 0]);
  assert.deepEqual([...table.blocks[0][0].l2], [NaN, NaN, NaN, 0]);
  assert.deepEqual([...table.tokens[0].positions], [0, 7]);
  assert.equal((await read(csvOf(ROWS), "csv")).blocks[0][0].absent, null);
});

test("undefined distances may be empty, NaN or null", async () => {
  const row = (value) => `0,0,"a",0,"Full",${value},0.5`;
  for (const value of ["", "NaN", "nan", "NA", "null", '""']) {
    assert.deepEqual(rowsIn(await read(`${COLUMNS}\n${row(value)}\n`, "csv")), [[0, 0, "a", 0, "Full", null, 0.5]]);
  }
  const text = JSON.stringify(recordsOf([[0, 0, "a", 0, "Full", null, 0.5]])).replace("null", "NaN");
  assert.deepEqual(rowsIn(await read(text, "json")), [[0, 0, "a", 0, "Full", null, 0.5]]);
});

test("float64 digits are kept, float32 ones take half the memory", async () => {
  const rows = [
    [0, 0, "a", 0, "Full", 0.5, 0.25],
    [0, 1, "a", 0, "Full", 0.1234567890123, 1e-300],
  ];
  for (const [format, text] of forms(rows)) {
    const table = await read(text, format);
    assert.ok(table.blocks[0][0].l2 instanceof Float64Array);
    assert.deepEqual(rowsIn(table), rows);
    assert.ok((await read(text, format, { anyDigits: true })).blocks[0][0].l2 instanceof Float32Array);
  }
  assert.ok((await read(csvOf(ROWS), "csv")).blocks[0][0].l2 instanceof Float32Array);
  assert.ok((await read(csvOf(ROWS), "csv", { float64: true })).blocks[0][0].l2 instanceof Float64Array);
});

test("images: a token's place is kept, text tokens have none", async () => {
  const text = `${COLUMNS},token_type,image_index,patch_row,patch_col\n0,0,a,0,Full,1,1,text,,,\n0,0,"img0[3,5]",1,Full,1,1,vision,0,3,5.0\n`;
  const columns = {
    ...columnsOf([
      [0, 0, "a", 0, "Full", 1, 1],
      [0, 0, "b", 1, "Full", 1, 1],
    ]),
    image_index: [null, 0],
    patch_row: [null, 3],
    patch_col: [null, 5],
  };
  for (const table of [await read(text, "csv"), await read(JSON.stringify(columns), "json")]) {
    assert.deepEqual([...table.tokens[0].places], [-1, -1, -1, 0, 3, 5]);
  }
  assert.equal((await read(csvOf(ROWS), "csv")).tokens[0].places, null);
});

test("progress counts bytes, and a signal stops it", async () => {
  const done = [];
  const text = csvOf(ROWS);
  await read(text, "csv", { size: 500, onProgress: (bytes) => done.push(bytes) });
  assert.equal(done.at(-1), new Blob([text]).size);
  assert.ok(done.length > 3 && done.every((bytes, index) => index === 0 || bytes > done[index - 1]));
  const controller = new AbortController();
  const reading = read(text, "csv", { size: 500, signal: controller.signal, onProgress: () => controller.abort() });
  await assert.rejects(reading, { name: "AbortError" });
});
