import assert from "node:assert/strict";
import { File } from "node:buffer";
import { readFileSync } from "node:fs";
import test from "node:test";
import { gzipSync } from "node:zlib";

import { openEmbedded } from "../read/embedded.js";
import { createOpener, groupFiles } from "../read/opening.js";
import { readTable } from "../read/table.js";
import { csvOf, rowsOf } from "./tables.mjs";

const ROWS = rowsOf({ words: ["The", " cat"], steps: 1, layers: [0, 2], variants: ["Full", "Head_0"] });
const RUN = {
  schema_version: 1,
  status: "complete",
  rows: ROWS.length,
  layers: [0, 2],
  settings: { prompt: "The cat" },
  prompt_length: 2,
  dtypes: { results: "float32" },
  tokens: [
    { id: 1, text: "The" },
    { id: 2, text: " cat" },
    { id: 3, text: " sat" },
  ],
  steps: [
    {
      step: 0,
      top: [{ id: 3, text: " sat", probability: 0.5 }],
      next: { id: 3, text: " sat", probability: 0.5 },
      baseline_norm: { Full: [2, 4], Head_0: [1, null] },
      noise_floor_l2: { Full: [1e-6, 2e-6] },
      max_cosine: { Full: [0.5, "x"] },
    },
  ],
};
const csv = (name, rows = ROWS) => new File([csvOf(rows)], name);
const run = (name, changes = {}) => new File([JSON.stringify({ ...RUN, ...changes })], name);
const inFolder = (folder, file) =>
  Object.defineProperty(file, "webkitRelativePath", { value: `${folder}/${file.name}` });

async function opened(files, open = createOpener(readTable)) {
  const entries = [];
  const faults = [];
  await open(files, { onResult: (entry) => entries.push(entry), onError: ({ sentence }) => faults.push(sentence) });
  return { entries, faults };
}

test("files are grouped by folder and name", () => {
  const files = [
    "b_run.json",
    "B_results.CSV",
    "b_results.parquet",
    "a_results.json",
    "any.csv",
    "a.json",
    "x_run.csv",
    "notes.txt",
    "r10.csv",
    "r9.csv",
  ].map((name) => new File(["x"], name));
  const shown = groupFiles(files).map(({ name, tables, run: record }) => [
    name,
    Object.values(tables).map((file) => file.name),
    record?.name,
  ]);
  assert.deepEqual(shown, [
    ["a", ["a_results.json"], undefined],
    ["a.json", ["a.json"], undefined],
    ["any", ["any.csv"], undefined],
    ["b", ["B_results.CSV", "b_results.parquet"], "b_run.json"],
    ["r9", ["r9.csv"], undefined],
    ["r10", ["r10.csv"], undefined],
    ["x_run", ["x_run.csv"], undefined],
  ]);
});

test("a run file joins its result and gives norms, floors and next tokens", async () => {
  const { entries, faults } = await opened([run("cat_run.json"), csv("cat_results.csv")]);
  assert.deepEqual([faults, entries.map(({ id, label }) => [id, label])], [[], [["cat", "The cat"]]]);
  const result = await entries[0].load();
  assert.deepEqual(
    [result.norm(0, 0, 1), result.norm(0, 1, 1), result.floor(0, 0, 0, "l2"), result.floor(0, 0, 0, "cosine")],
    [4, null, 1e-6, null],
  );
  assert.deepEqual(
    [result.maxima(0, 0, 0, "cosine"), result.maxima(0, 0, 1, "cosine"), result.promptLength, result.notes],
    [0.5, null, 2, []],
  );
  assert.deepEqual([result.top(0), result.generated(0)], [RUN.steps[0].top, RUN.steps[0].next]);
  assert.deepEqual(result.tokens(0)[1], { text: " cat", position: 1, type: "text", image: null, row: null, col: null });
  const matrix = await result.matrix(0, 0, "l2");
  assert.deepEqual([matrix.rows, matrix.cols, matrix.absent, matrix.values[0]], [2, 2, null, 0]);
  assert.deepEqual(
    result.sources.map(({ file }) => file),
    ["cat_results.csv", "cat_run.json"],
  );
  assert.equal(await entries[0].load(), result);
});

test("without a run file a note says what is missing", async () => {
  const { entries } = await opened([csv("anything.csv")]);
  const result = await entries[0].load();
  assert.match(
    result.notes[0],
    /^No run file \(anything_run.json\): no relative distances, noise floor or next tokens/,
  );
  assert.deepEqual(
    [result.run, result.norm(0, 0, 0), result.top(0), result.generated(0), result.images],
    [null, null, null, null, []],
  );
});

test("a run file that is dropped later joins its result under the same id", async () => {
  const open = createOpener(readTable);
  const before = await opened([csv("cat_results.csv")], open);
  const after = await opened([run("cat_run.json")], open);
  assert.deepEqual([before.entries[0].id, after.entries[0].id], ["cat", "cat"]);
  assert.equal((await after.entries[0].load()).norm(0, 0, 0), 2);
});

test("equal names of different files get different ids, the same files the same one", async () => {
  const open = createOpener(readTable);
  const one = inFolder("one", csv("cat_results.csv"));
  const two = inFolder("two", csv("cat_results.csv", ROWS.slice(1)));
  const { entries } = await opened([one, two], open);
  assert.deepEqual(
    entries.map(({ id }) => id),
    ["one/cat", "two/cat"],
  );
  assert.deepEqual(
    (await opened([two], open)).entries.map(({ id }) => id),
    ["two/cat"],
  );
  const loose = await opened([csv("cat_results.csv", ROWS.slice(2)), csv("dog.csv")], open);
  const again = await opened([csv("dog.csv", ROWS.slice(1))], open);
  assert.deepEqual(
    [...loose.entries, ...again.entries].map(({ id }) => id),
    ["cat", "dog", "dog (2)"],
  );
});

test("of equal names the folder is shown from where it differs", async () => {
  const paths = ["out/may/a", "out/june/a", "out", "out/june/b"];
  const { entries } = await opened(
    paths.map((path) => inFolder(path, csv(path.endsWith("b") ? "dog.csv" : "cat.csv"))),
  );
  assert.deepEqual(entries.map(({ id }) => id).sort(), ["cat", "dog", "june/a/cat", "may/a/cat"]);
});

test("run files that do not do are named, and their tables stay where they can", async () => {
  const cases = [
    [{ schema_version: 2 }, /^cat_run.json: has schema_version 2, but this page knows versions up to 1/, 0],
    [{ schema_version: "1" }, /^cat_run.json: is no run file: its schema_version is "1"/, 1],
  ];
  for (const [changes, sentence, listed] of cases) {
    const { entries, faults } = await opened([run("cat_run.json", changes), csv("cat_results.csv")]);
    assert.match(faults[0], sentence);
    assert.equal(entries.length, listed);
  }
  const broken = await opened([new File(['{"schema_version": 1'], "cat_run.json"), csv("cat_results.csv")]);
  assert.match(broken.faults[0], /^cat_run.json: is not a whole run file/);
  assert.match((await broken.entries[0].load()).notes[0], /^No run file/);
});

test("a run that failed says so, with and without a table", async () => {
  const failed = { status: "failed", reason: "out of memory" };
  const alone = await opened([run("cat_run.json", failed)]);
  assert.deepEqual(
    [alone.entries.length, alone.faults],
    [0, ["cat_run.json: says that this run failed (out of memory)"]],
  );
  const { entries } = await opened([run("cat_run.json", failed), csv("cat_results.csv")]);
  assert.match((await entries[0].load()).notes[0], /^cat_run.json says that this run failed \(out of memory\)/);
  assert.match((await opened([run("cat_run.json")])).faults[0], /^cat_run.json: is the run file of cat, but its table/);
});

test("a table of another length than its run says is refused; of other tokens, doubted", async () => {
  const short = await opened([run("cat_run.json"), csv("cat_results.csv", ROWS.slice(1))]);
  await assert.rejects(short.entries[0].load(), {
    message:
      "cat_results.csv: has 7 rows where cat_run.json says 8; one of them was cut short or belongs to another run",
    file: "cat_results.csv",
  });
  const other = await opened([run("cat_run.json", { tokens: [{ text: "A" }] }), csv("cat_results.csv")]);
  assert.match((await other.entries[0].load()).notes[0], /^The tokens in cat_run.json are not those of the table/);
});

test("a wild run record is used as far as it goes", async () => {
  const wild = {
    steps: [null, 7, { step: 0, top: "x", next: { text: 5 }, baseline_norm: { Full: "ab" }, max_l2: [] }],
    layers: "0",
    tokens: {},
    images: [{ uri: "https://x" }, null],
    prompt_length: "2",
  };
  const { entries } = await opened([run("cat_run.json", wild), csv("cat_results.csv")]);
  const result = await entries[0].load();
  assert.deepEqual(
    [result.norm(0, 0, 0), result.top(0), result.generated(0), result.promptLength, result.images[0].uri],
    [null, null, null, null, null],
  );
});

test("a failed load can be tried again, and a wrong file says what it is", async () => {
  const { entries } = await opened([new File(["a,b\n1,2\n"], "foreign.csv")]);
  await assert.rejects(entries[0].load(), /^ReadError: foreign.csv: is a table of a, b, but no result/);
  await assert.rejects(entries[0].load(), /^ReadError: foreign.csv/);
});

test("files that are none of ours are named in one sentence, whatever else is opened", async () => {
  const text = (name) => new File(["x"], name);
  assert.deepEqual((await opened([text("notes.txt")])).faults, [
    "notes.txt: no CSV, JSON or Parquet file, so not used",
  ]);
  const { entries, faults } = await opened([text("notes.txt"), csv("cat_results.csv"), inFolder("out", text("a.png"))]);
  assert.deepEqual([entries.length, faults], [1, ["notes.txt, out/a.png: no CSV, JSON or Parquet files, so not used"]]);
});

test("what a batch leaves beside its results is passed over, but for those who open nothing else", async () => {
  const beside = ["coin_report.html", "night_summary.csv", ".gitkeep", ".partial/big/run.json"].map((path) => {
    const [name, ...folders] = path.split("/").reverse();
    return inFolder(["output", ...folders.reverse()].join("/"), new File(["x"], name));
  });
  const { entries, faults } = await opened([...beside, inFolder("output", csv("cat_results.csv"))]);
  assert.deepEqual([entries.map(({ id }) => id), faults], [["cat"], []]);
  assert.deepEqual((await opened([beside[0]])).faults, [
    "output/coin_report.html: no CSV, JSON or Parquet file, so not used",
  ]);
});

test("knock-outs are no results, and are named where they come alone", async () => {
  const tables = ["cat_knockout.csv", "cat_Knockout.JSON", "cat_knockout.parquet"].map((name) => new File(["x"], name));
  const { entries, faults } = await opened([...tables, run("cat_run.json"), csv("cat_results.csv")]);
  assert.deepEqual([entries.map(({ id }) => id), faults], [["cat"], []]);
  const alone = await opened([tables[0], inFolder("out", tables[1])]);
  const sentence = "cat_knockout.csv, out/cat_Knockout.JSON: knock-outs, shown from the run file";
  assert.deepEqual([alone.entries, alone.faults], [[], [sentence]]);
  const named = await opened([csv("cat_knockout_results.csv"), run("cat_knockout_run.json")]);
  assert.deepEqual([named.entries.map(({ id }) => id), named.faults], [["cat_knockout"], []]);
});

test("Parquet brings its run record, and reads the rest on demand", async () => {
  const file = new File([readFileSync(new URL("data/own.parquet", import.meta.url))], "own_results.parquet");
  const result = await (await opened([file])).entries[0].load();
  assert.deepEqual([result.notes, result.run.settings.prompt, result.peek(2, 3, "l2")], [[], "The cat", null]);
  const [one, two] = await Promise.all([result.matrix(2, 3, "l2"), result.matrix(2, 3, "cosine")]);
  assert.deepEqual([one.cols, result.peek(2, 3, "cosine").values], [5, two.values]);
});

/** A document that has these blocks. */
function documentOf(blocks) {
  return { getElementById: (id) => (id in blocks ? { textContent: blocks[id] } : null) };
}

test("a report's data is unpacked, a variant at a time", async () => {
  const packed = (...values) => gzipSync(Buffer.from(Float32Array.from(values).buffer)).toString("base64");
  const table = {
    name: "cat",
    steps: [0],
    variants: ["Full", "Head_0"],
    layers: [0, 2],
    own_layers: [[0, 2], [2]],
    positions: [2],
    words: ["a", "</script>"],
    codes: [0, 1],
    rows: 6,
  };
  const blocks = {
    "report-table": JSON.stringify(table),
    "report-run": JSON.stringify(RUN),
    "report-data-0-0": packed(1, 2, 3, NaN, 5, 6, 7, 8),
    "report-data-0-1": packed(1, 2, 3, 4),
  };
  const result = await openEmbedded(documentOf(blocks));
  assert.deepEqual(
    [result.name, result.rows, result.tokens(0)[1].text, result.norm(0, 0, 1)],
    ["cat", 6, "</script>", 4],
  );
  assert.deepEqual([...result.peek(0, 0, "l2").values], [1, 2, 3, NaN]);
  const head = await result.matrix(0, 1, "cosine");
  assert.deepEqual(
    [[...head.values], [...head.absent]],
    [
      [NaN, NaN, 3, 4],
      [1, 1, 0, 0],
    ],
  );
  assert.equal(await openEmbedded(documentOf({})), null);
  await assert.rejects(
    openEmbedded(documentOf({ ...blocks, "report-data-0-0": packed(1) })),
    /^ReadError: this report: its data is damaged \(4 bytes where 32 belong\)/,
  );
  await assert.rejects(
    openEmbedded(documentOf({ ...blocks, "report-data-0-0": "!" })),
    /^ReadError: this report: its data is damaged/,
  );
});

test("a report of a picture says which positions were masked, and where they lie", async () => {
  const packed = (...values) => gzipSync(Buffer.from(Float32Array.from(values).buffer)).toString("base64");
  const table = {
    name: "p",
    steps: [0],
    variants: ["Full"],
    layers: [0],
    own_layers: [[0]],
    positions: [[1, 3]],
    words: ["", "img0[0,1]", "img1[2,0]"],
    codes: [0, 1, 0, 2],
    places: [
      [-1, -1, -1],
      [0, 0, 1],
      [-1, -1, -1],
      [1, 2, 0],
    ],
    rows: 2,
  };
  const result = await openEmbedded(
    documentOf({ "report-table": JSON.stringify(table), "report-data-0-0": packed(1, 2, 3, 4) }),
  );
  const seen = result
    .tokens(0)
    .map(({ text, position, type, image, row, col }) => [text, position, type, image, row, col]);
  assert.deepEqual(seen, [
    ["img0[0,1]", 1, "vision", 0, 0, 1],
    ["img1[2,0]", 3, "vision", 1, 2, 0],
  ]);
  assert.deepEqual([...result.peek(0, 0, "cosine").values], [3, 4]);
});

test("hundreds of runs are listed without reading a table", async () => {
  let reads = 0;
  const open = createOpener(async (...request) => {
    reads++;
    return readTable(...request);
  });
  const files = Array.from({ length: 300 }, (_, index) => [
    csv(`r${index}_results.csv`),
    run(`r${index}_run.json`),
  ]).flat();
  const { entries } = await opened(files, open);
  assert.deepEqual([entries.length, reads, entries[299].id], [300, 0, "r299"]);
});

test("a run that is released is closed, and read again when it is asked for", async () => {
  let [reads, closed] = [0, 0];
  const open = createOpener(async (...request) => {
    reads++;
    return { ...(await readTable(...request)), close: () => closed++ };
  });
  const {
    entries: [entry],
  } = await opened([csv("cat_results.csv")], open);
  const first = await entry.load();
  assert.equal(await entry.load(), first);
  entry.release();
  assert.notEqual(await entry.load(), first);
  assert.deepEqual([reads, closed], [2, 1]);
});
