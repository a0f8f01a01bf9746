import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { readTable } from "../read/table.js";
import { inOrder, rowsIn } from "./tables.mjs";

const bytesOf = (name) => readFileSync(new URL(`data/${name}.parquet`, import.meta.url));
const read = (name) => readTable(new Blob([bytesOf(name)]), "parquet");

const TOKENS = ["The", ' "cat"', "</script>", "", " sat"];
const EVEN = ["Full", "Attn", "Head_0", "Head_1"].flatMap((variant) => [
  [variant, 0],
  [variant, 1],
]);
const UNEVEN = [
  ["Full", 1],
  ["Full", 2],
  ["Full", 5],
  ["Head_0", 1],
  ["Head_0", 5],
  ["Head_1", 2],
];

/** What data/make.py wrote. */
function made(cells, round = Math.fround) {
  const rows = [];
  for (let step = 0; step < 3; step++) {
    let count = 0;
    for (const [variant, layer] of cells) {
      for (let position = 0; position < 3 + step; position++, count++) {
        const value = count === 0 ? null : round(((count * 37) % 101) / 8 + step);
        rows.push([
          step,
          layer,
          TOKENS[position],
          position,
          variant,
          value,
          value === null ? null : round(value / 100),
        ]);
      }
    }
  }
  return inOrder(rows);
}

async function wholeOf({ table, loadBlock }) {
  for (const [step, blocks] of table.blocks.entries()) {
    for (const variant of blocks.keys()) blocks[variant] ??= await loadBlock(step, variant);
  }
  return rowsIn(table);
}

test("an own file gives its first heatmap alone, and the others when asked", async () => {
  const opened = await read("own");
  assert.deepEqual(opened.table.blocks.flat().map(Boolean), [true, ...Array(11).fill(false)]);
  assert.equal(JSON.parse(opened.run).settings.prompt, "The cat");
  assert.equal(opened.table.rows, 96);
  assert.deepEqual(await wholeOf(opened), made(EVEN));
});

test("layers that lack a head have absent rows", async () => {
  const opened = await read("uneven");
  assert.deepEqual(opened.table.layers, [1, 2, 5]);
  assert.deepEqual(await wholeOf(opened), made(UNEVEN));
  assert.deepEqual([...opened.table.blocks[0][2].absent], [1, 1, 1, 0, 0, 0, 1, 1, 1]);
  assert.equal(opened.table.blocks[0][0].absent, null);
});

test("float64 stays float64", async () => {
  const opened = await read("float64");
  assert.ok(opened.table.blocks[0][0].l2 instanceof Float64Array);
  assert.deepEqual(
    await wholeOf(opened),
    made(EVEN, (value) => value),
  );
});

test("a file of pandas, in other groups and another order, is read whole", async () => {
  const opened = await read("pandas");
  assert.equal(opened.loadBlock, undefined);
  assert.equal(opened.run, null);
  assert.deepEqual(rowsIn(opened.table), made(EVEN));
});

const fault = (name) => ({ name: "ReadError", message: name });

test("what cannot be read says why", async () => {
  await assert.rejects(read("zstd"), fault(/^is compressed with ZSTD, which this page cannot unpack/));
  await assert.rejects(read("negative"), fault("row 1: layer is -1, where a whole number from 0 to 9,999 belongs"));
});

test("a truncated file is known as such, wherever it ends", async () => {
  const bytes = bytesOf("own");
  for (let length = 0; length < bytes.length; length += 37) {
    const reading = readTable(new Blob([bytes.subarray(0, length)]), "parquet");
    await assert.rejects(
      reading,
      fault(length === 0 ? "is empty" : /cut short|does not begin with PAR1/),
      String(length),
    );
  }
});

test("damage anywhere gives a sentence or a table, never another error", async () => {
  const bytes = bytesOf("own");
  for (let at = 0; at < bytes.length; at += 11) {
    const damaged = Uint8Array.from(bytes);
    damaged[at] ^= 0x55;
    try {
      await wholeOf(await readTable(new Blob([damaged]), "parquet"));
    } catch (error) {
      assert.equal(error.name, "ReadError", `${at}: ${error.stack}`);
    }
  }
});
