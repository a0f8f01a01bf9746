import assert from "node:assert/strict";
import test from "node:test";

import { readTable } from "../read/table.js";
import { randomNumbers } from "./fake.mjs";
import { COLUMNS, columnsOf, csvOf, recordsOf, rowsOf } from "./tables.mjs";

const read = (text, format, options) => readTable(new Blob([text]), format, options);
const HEAD = `${COLUMNS}\n`;
const NO_RESULT =
  "but no result of this tool, which has the columns generation_step, layer, token_position, token_masked, variant, l2_distance, cosine_distance";

function faultOf(text, format, options) {
  return read(text, format, options).then(
    () => assert.fail("was read"),
    (error) => {
      assert.equal(error.name, "ReadError", error.stack);
      assert.doesNotMatch(error.message, /\n/);
      return error.message;
    },
  );
}

/** A good row, with some of its values replaced. */
const row = (changes) => Object.values({ ...recordsOf([[0, 0, "a", 0, "Full", 1, 0.5]])[0], ...changes });

const FAULTS = [
  [{ layer: 1.5 }, "layer is 1.5, where a whole number from 0 to"],
  [{ layer: -1 }, "layer is -1, where a whole number from 0 to"],
  [{ layer: 1e6 }, "layer is 1000000, where a whole number from 0 to 9,999 belongs"],
  [{ generation_step: null }, "generation_step is "],
  [{ token_position: 4e9 }, "token_position is 4000000000, where a whole number from 0 to"],
  [{ token_position: 0.5 }, "token_position is 0.5, where a whole number"],
  [{ l2_distance: -0.25 }, "l2_distance is -0.25, where a distance is at least 0 and finite"],
  [{ cosine_distance: -1e-9 }, "cosine_distance is "],
  [{ l2_distance: "much" }, 'l2_distance is "much", where a number belongs'],
  [{ variant: "Body" }, 'variant is "Body", where a result has Full, Attn or Head_0, Head_1, …'],
  [{ variant: "Head_01" }, 'variant is "Head_01", where'],
  [{ variant: "__proto__" }, 'variant is "__proto__", where'],
];

test("a wrong value is named with its row and column, in every form", async () => {
  for (const [changes, sentence] of FAULTS) {
    const rows = [
      row({ token_position: 1, token_masked: "b" }),
      row({ token_position: 2, token_masked: "c" }),
      row(changes),
    ];
    for (const [text, format] of [
      [csvOf(rows), "csv"],
      [JSON.stringify(columnsOf(rows)), "json"],
      [JSON.stringify(recordsOf(rows)), "json"],
    ]) {
      const message = await faultOf(text, format);
      assert.ok(message.startsWith(`row 3: ${sentence}`), `${message} | ${text.slice(-90)}`);
    }
  }
});

test("a cell that stands twice, and a token that changes, are named", async () => {
  const two = [row({}), row({ layer: 1 })];
  assert.equal(
    await faultOf(csvOf([...two, two[0]]), "csv"),
    "row 3: generation step 0, Full, layer 0, position 0 stands twice",
  );
  const other = row({ layer: 2, token_masked: "b" });
  assert.equal(
    await faultOf(csvOf([...two, other]), "csv"),
    'row 3: token_masked is "b", where an earlier row of step 0 and position 0 has "a"',
  );
});

test("files that are no result", async () => {
  const cases = [
    ["", "csv", "is empty"],
    ["\ufeff", "csv", "is empty"],
    ["hello", "csv", 'is not a table: it begins with "hello" and has no second line'],
    ["a,b\n1,2\n", "csv", `is a table of a, b, ${NO_RESULT}`],
    [
      "layer,b\n1,2\n",
      "csv",
      "has no column generation_step, token_position, token_masked, variant, l2_distance, cosine_distance, so it is not a result of this tool (columns found: layer, b)",
    ],
    [
      Uint8Array.from({ length: 256 }, (_, byte) => byte),
      "csv",
      `is no text but a binary file (its first bytes are 00 01 02 03), ${NO_RESULT}`,
    ],
    [
      Uint8Array.from([0x89, 80, 78, 71, 13, 10, 26, 10, 0]),
      "csv",
      "is no text but a binary file (its first bytes are 89 50 4e 47), but",
    ],
    ["PK\x03\x04\x14", "csv", "is no text but a binary file (its first bytes are 50 4b 03 04), but"],
    [Uint8Array.from([0xff, 0xfe, 97, 0, 10, 0]), "csv", "is UTF-16 text, where a CSV is UTF-8; save it as UTF-8"],
    ["a\u202eb\u0085,c\n", "csv", "is a table of a\\u202eb\\u0085, c, but no result"],
    [`${COLUMNS},layer\n`, "csv", "has the column layer twice"],
    [HEAD, "csv", "has no rows"],
    ["", "json", "is empty"],
    [" \n", "json", "is empty"],
    ["7", "json", `is no JSON table: it begins with "7", ${NO_RESULT}`],
    ["<html>", "json", 'is no JSON table: it begins with "<html>", but'],
    ["\x7f", "json", 'is no JSON table: it begins with "\\u007f", but'],
    ["{}", "json", `is a JSON object of nothing, ${NO_RESULT}`],
    ['{"a": {"b": 3}, "c": [1, 2]}', "json", `is a JSON object of a, c, ${NO_RESULT}`],
    ["[]", "json", "has no rows"],
    ["[1, 2]", "json", `is a JSON list of numbers or words, ${NO_RESULT}`],
    ['["a"]', "json", "is a JSON list of texts, but no result"],
    ['[{"name": "a", "price": 1}]', "json", `is a list of JSON records of name, price, ${NO_RESULT}`],
    ['[{"layer": 1}]', "json", "has no column generation_step, token_position"],
    ['{"layer": 1}', "json", 'is JSON, but no table: layer is "1}", where the list of its values belongs'],
    [
      '{"schema_version": 1, "status": "complete"}',
      "json",
      "is a run file without the ending _run.json: a JSON object of schema_version, status, but",
    ],
    [JSON.stringify({ ...columnsOf(rowsOf()), layer: [1] }), "json", "has 1 values in layer, but"],
    [JSON.stringify(columnsOf([])), "json", "has no rows"],
    [`${HEAD}0,0,"\xff",0,Full,1,1\n`, "csv", null],
  ];
  for (const [text, format, sentence] of cases) {
    if (sentence !== null)
      assert.ok(
        (await faultOf(text, format)).startsWith(sentence),
        `${await faultOf(text, format)} | ${text.slice(0, 60)}`,
      );
  }
});

test("rows with too few or too many fields, or text behind a quote", async () => {
  const good = '0,0,"a",0,"Full",1,1\n';
  assert.equal(await faultOf(`${HEAD}${good}0,0,a,1,Full,1\n`, "csv"), "row 2: has 6 fields, where the header has 7");
  assert.equal(
    await faultOf(`${HEAD}${good}0,0,a,1,Full,1,1,9,"9\n,"\n`, "csv"),
    "row 2: has 9 fields, where the header has 7",
  );
  assert.match(
    await faultOf(`${HEAD}0,0,"a"b,0,Full,1,1\n`, "csv"),
    /^row 1: token_masked is "\\"a\\"b": something stands behind/,
  );
  assert.match(
    await faultOf(`${HEAD}0,0,"a,0,Full,1,1\n${good.repeat(3)}`, "csv"),
    /cut short|behind the closing quote/,
  );
});

test("text that is not UTF-8 is named", async () => {
  const bytes = Uint8Array.from([
    ...new TextEncoder().encode(`${HEAD}0,0,`),
    0xe9,
    ...new TextEncoder().encode(",0,Full,1,1\n"),
  ]);
  assert.equal(await faultOf(bytes, "csv"), "row 1: token_masked is not UTF-8 (bytes e9)");
});

test("a file that is cut short anywhere is no table, or is known to have no last line end", async () => {
  const rows = rowsOf({ words: ['a"\n', ",b"], steps: 1, layers: [0], variants: ["Full", "Head_0"] });
  for (const [text, format] of [
    [csvOf(rows), "csv"],
    [JSON.stringify(columnsOf(rows)), "json"],
    [JSON.stringify(recordsOf(rows)), "json"],
  ]) {
    const bytes = new TextEncoder().encode(text);
    for (let length = 0; length < bytes.length; length++) {
      const part = bytes.subarray(0, length);
      const atRowEnd =
        format === "csv" && bytes[length - 1] === 10 && part.filter((byte) => byte === 34).length % 2 === 0;
      const unended = format === "csv" && (await read(part, format).catch(() => ({}))).table?.unended;
      if (!atRowEnd && !unended)
        assert.match(
          await faultOf(part, format),
          /cut short|is empty|has no second line|no column/,
          `${length} of ${text}`,
        );
    }
  }
});

test("damage anywhere gives a sentence or a table, never another error", async () => {
  const random = randomNumbers(5);
  const rows = rowsOf({ words: ['a"', "🙂"], steps: 1 });
  for (const [text, format] of [
    [csvOf(rows), "csv"],
    [JSON.stringify(columnsOf(rows)), "json"],
    [JSON.stringify(recordsOf(rows), null, 1), "json"],
  ]) {
    for (let round = 0; round < 1500; round++) {
      const bytes = new TextEncoder().encode(text);
      for (let hit = 0; hit < 3; hit++)
        bytes[Math.floor(random() * bytes.length)] = [34, 44, 10, 0, 92, 123, 93, 58, 45, 57, 255][
          Math.floor(random() * 11)
        ];
      await read(bytes, format, { size: 100 }).catch((error) => assert.equal(error.name, "ReadError", error.stack));
    }
  }
});

test("sparse layers and positions that would need terabytes are refused, not tried", async () => {
  const rows = Array.from({ length: 5000 }, (_, index) => row({ layer: index, token_position: 3000 * index }));
  assert.match(
    await faultOf(csvOf(rows), "csv"),
    /^row \d+: with it the distances would take more than 1.2 GB of memory/,
  );
});

test("a value without an end does not fill the memory", async () => {
  const endless = new Blob([`${HEAD}0,0,"`, ...Array(70).fill("x".repeat(1 << 20))]);
  await assert.rejects(readTable(endless, "csv"), /has a value longer than 64 MB|cut short/);
});

test("a CSV without its last line end is read if its rows are whole", async () => {
  const rows = rowsOf({ words: ["a", "b"], steps: 1, layers: [0, 1, 2], variants: ["Full"] });
  for (const end of ["\n", "\r\n"]) {
    const text = csvOf(rows, { end });
    assert.equal((await read(text, "csv")).table.unended, false);
    assert.deepEqual({ ...(await read(text, "csv")).table, unended: true }, (await read(text.trimEnd(), "csv")).table);
  }
  const cut = (length) => faultOf(csvOf(rows).trimEnd().slice(0, length), "csv");
  const whole = csvOf(rows).trimEnd();
  for (let length = whole.lastIndexOf("\n") + 2; length <= whole.lastIndexOf(",") + 1; length++)
    assert.match(await cut(length), /^ends within row 6, so it was cut short/);
  assert.match(await cut(csvOf(rows.slice(0, 3)).length - 1), /^ends within row 3, so it was cut short/);
});

test("semicolons, tabs and JSON Lines are refused with what to do", async () => {
  const text = csvOf(rowsOf());
  for (const mark of [";", "\t"])
    assert.match(
      await faultOf(text.replaceAll(",", mark), "csv"),
      /^separates its columns by semicolons or tabs; save it with commas/,
    );
  assert.match(
    await faultOf(`\ufeff${text.split("\n")[0].replace(/\w+/g, '"$&"').replaceAll(",", ";")}\n`, "csv"),
    /^separates its columns/,
  );
  const lines = recordsOf(rowsOf()).map((record) => JSON.stringify(record));
  assert.match(await faultOf(lines.join("\n"), "json"), /^is JSON Lines, .*pd.read_json\(path, lines=True\)/);
  assert.equal((await read(`${JSON.stringify(columnsOf(rowsOf()))}\n\n`, "json")).table.rows, rowsOf().length);
});
