import assert from "node:assert/strict";
import test from "node:test";
import { gzipSync } from "node:zlib";

import { openEmbedded } from "../read/embedded.js";
import { stretches } from "../read/units.js";
import { FORMS, NAMES, STEPS, read, unitResult, unitRows } from "./unit_tables.mjs";

const described = (result, step) => result.tokens(step).map(({ unit, text, where }) => [unit, text, where]);

test("positions are stretches that ascend", () => {
  assert.deepEqual(stretches("3-5,9"), [
    [3, 5],
    [9, 9],
  ]);
  assert.deepEqual(stretches("7"), [[7, 7]]);
  for (const text of ["", "5-3", "3,3", "3-5,4", "a", "3-", ",3", "-1", "3 4", "1.5", "123456789"])
    assert.equal(stretches(text), null, text);
});

for (const [form, write] of Object.entries(FORMS)) {
  test(`units are read from ${form}, each kind apart and each step with its own`, async () => {
    const table = await read(write(unitRows()), form === "json" || form === "records" ? "json" : "csv");
    assert.equal(table.rows, 80);
    const names = (part, step) => Array.from(part.tokens[step].codes, (code) => table.words[code]);
    const shape = (step) =>
      Object.fromEntries(table.parts.map((part) => [part.kind, [names(part, step), part.tokens[step].where]]));
    for (const step of [0, 1]) {
      const wanted = (kind) => STEPS[step].filter(([unit]) => unit === kind);
      const found = shape(step);
      assert.deepEqual(Object.keys(found).sort(), ["pairs", "spans", "words"]);
      assert.deepEqual(found.words, [wanted("words").map(([, text]) => text), wanted("words").map(([, , at]) => at)]);
      if (form === "shuffled") continue; // spans and pairs then stand as they come
      assert.deepEqual(found.spans, [wanted("spans").map(([, text]) => text), wanted("spans").map(([, , at]) => at)]);
      assert.deepEqual(found.pairs[0], ["place + seer", "again + seer"]);
    }
    assert.equal(table.parts.at(-1).kind, "pairs");
    const [words, pairs] = ["words", "pairs"].map((kind) => table.parts.find((part) => part.kind === kind));
    assert.deepEqual([...words.blocks[0][0].l2], [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]);
    assert.equal(words.blocks[0][0].absent, null);
    assert.equal(words.blocks[0][0].interaction, undefined);
    const order = names(pairs, 1)[0] === "place + seer" ? [69, 70] : [70, 69];
    assert.deepEqual([...pairs.blocks[1][1].l2].slice(0, 2), order);
    const both = [...pairs.blocks[1][1].interaction].slice(0, 2);
    assert.deepEqual(order[0] === 69 ? both : both.reverse(), [Math.fround(6.9), NaN]);
  });
}

test("distances of many digits are kept, an interaction's too", async () => {
  const rows = unitRows().map((row) => [...row.slice(0, 9), row[9] === null ? null : row[9] + 1e-12]);
  const table = await read(FORMS.csv(rows));
  assert.ok(table.parts.at(-1).blocks[0][0].interaction instanceof Float64Array);
});

test("a row that is no unit is told by its number and column", async () => {
  const spoilt = (row, column, value) => {
    const rows = unitRows();
    rows[row][NAMES.indexOf(column)] = value;
    return rows;
  };
  const faults = [
    [spoilt(3, "unit", "phrases"), /^ReadError: row 4: unit is "phrases", where a result has tokens, words, .*pairs$/],
    [spoilt(3, "unit", ""), /row 4: unit is nothing/],
    [spoilt(3, "positions", "4-3"), /row 4: positions is "4-3", where ascending ones belong, such as 3-5 or 3,7/],
    [spoilt(3, "positions", "2-4"), /row 4: token_position is 3, where positions begin at 2/],
    [[...unitRows(), unitRows()[8]], /row 81: generation step 0, Full, layer 0, pairs 0,3-5 stands twice/],
    [spoilt(8, "interaction_l2", -1), /row 9: interaction_l2 is -1, where a distance is at least 0 and finite/],
  ];
  for (const [rows, fault] of faults)
    for (const form of ["csv", "json", "records"])
      await assert.rejects(read(FORMS[form](rows), form === "csv" ? "csv" : "json"), fault, form);
});

test("a column of units alone is somebody else's", async () => {
  for (const keep of [7, 8, 9]) {
    const names = [...NAMES.slice(0, 7), NAMES[keep]];
    const rows = unitRows([STEPS[0].slice(0, 5)]).map((row) => [...row.slice(0, 7), row[keep]]);
    for (const form of ["csv", "json", "records"]) {
      const table = await read(FORMS[form](rows, names), form === "csv" ? "csv" : "json");
      assert.equal(table.parts, undefined);
      assert.deepEqual([...table.tokens[0].positions], [0, 1, 2, 3, 5]);
    }
  }
});

test("a result gives each kind as one of its own", async () => {
  const words = await unitResult();
  assert.deepEqual([words.kind, words.kinds, words.interacts], ["words", ["words", "spans", "pairs"], false]);
  const pairs = words.ofKind("pairs");
  assert.equal(pairs.ofKind("words"), words);
  assert.equal(pairs.ofKind("lines"), words); // there are none: the first
  assert.equal(pairs.interacts, true);
  assert.deepEqual(described(words, 1).at(-1), ["words", " Towers", "5-6"]);
  assert.deepEqual(words.tokens(0)[3].ranges, [[3, 4]]);
  assert.deepEqual([words.tokens(0)[3].count, pairs.tokens(0)[0].count], [2, 4]);
  assert.deepEqual([...pairs.peek(0, 0, "interaction").values].slice(0, 2), [Math.fround(0.9), NaN]);
  assert.equal(words.maxima(0, 0, 0, "l2"), null); // the run file's are those of all kinds
  assert.deepEqual(words.notes, []); // a unit's text is not the token at its first position
});

test("a block without any interaction has none in all of it", async () => {
  const rows = unitRows().map((row) => [...row.slice(0, 9), row[4] === "Full" ? row[9] : null]);
  const pairs = (await unitResult({}, rows)).ofKind("pairs");
  assert.ok([...pairs.peek(0, 1, "interaction").values].every(Number.isNaN));
});

test("tokens one by one are what they are in any table", async () => {
  const units = [
    ["tokens", "Anna", "0"],
    ["tokens", " saw", "1"],
    ["words", "Anna", "0"],
  ];
  const tokens = await unitResult(null, unitRows([units]));
  assert.deepEqual(tokens.tokens(0)[1], { text: " saw", position: 1, type: "text", image: null, row: null, col: null });
});

test("a whole picture has an image and no patch", async () => {
  const names = [...NAMES, "token_type", "image_index", "patch_row", "patch_col"];
  const rows = unitRows(
    [
      [
        ["images", "img0", "1-4"],
        ["words", "Anna", "0"],
      ],
    ],
    ["Full"],
  ).map((row) => [...row, ...(row[7] === "images" ? ["vision", 0, null, null] : ["text", null, null, null])]);
  for (const form of ["csv", "json", "records"]) {
    const { parts } = await read(FORMS[form](rows, names), form === "csv" ? "csv" : "json");
    assert.deepEqual([...parts[0].tokens[0].places], [0, -1, -1], form);
    assert.deepEqual([...parts[1].tokens[0].places], [-1, -1, -1], form);
  }
});

test("a report has units too", async () => {
  const packed = (values) => gzipSync(Buffer.from(Float32Array.from(values).buffer)).toString("base64");
  const count = STEPS[0].length;
  const values = (from) => Array.from({ length: 2 * count }, (_, at) => from + at);
  const table = {
    name: "tower",
    steps: [0, 1],
    variants: ["Full"],
    layers: [0, 1],
    own_layers: [[0, 1]],
    positions: STEPS.map((units) => units.map(([, , at]) => Number.parseInt(at, 10))),
    words: [],
    codes: [],
    places: null,
    rows: 4 * count,
    units: STEPS.map((units) => ({
      kinds: units.map(([kind]) => kind),
      texts: units.map(([, text]) => text),
      positions: units.map(([, , at]) => at),
    })),
    interaction: true,
  };
  const blocks = {
    "report-table": JSON.stringify(table),
    "report-data-0-0": packed([...values(1), ...values(100), ...values(200)]),
    "report-data-1-0": packed([...values(1000), ...values(100), ...values(300)]),
  };
  const words = await openEmbedded({
    getElementById: (id) => (id in blocks ? { textContent: blocks[id] } : null),
  });
  assert.deepEqual(described(words, 1).at(-1), ["words", " Towers", "5-6"]);
  assert.deepEqual([...words.peek(0, 0, "l2").values], [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]);
  const pairs = words.ofKind("pairs");
  assert.deepEqual([...(await pairs.matrix(1, 0, "l2")).values], [1008, 1009, 1018, 1019]);
  assert.deepEqual([...pairs.peek(1, 0, "interaction").values], [308, 309, 318, 319]);
});
