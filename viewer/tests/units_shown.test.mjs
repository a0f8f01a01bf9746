import assert from "node:assert/strict";
import { File } from "node:buffer";
import test from "node:test";

import { csvPieces } from "../export/csv.js";
import { plan } from "../export/layout.js";
import { csvOf, fileStem, pictureOf } from "../export/picture.js";
import { svgText } from "../export/svg.js";
import { promptLabel } from "../read/run.js";
import { mismatch } from "../view/align.js";
import { spoken } from "../view/cell.js";
import { indexAt, leftOut, leftOutToggled, startsOf } from "../view/columns.js";
import { decodeState, encodeState, placeIn } from "../view/hash.js";
import { patchGrid } from "../view/images.js";
import { sinkWords } from "../view/lead.js";
import { layoutOf } from "../view/maplayout.js";
import { paintCells } from "../view/pixels.js";
import { unitPieces } from "../view/prose.js";
import { DEFAULTS, atStep, canShow, currentView, forResult, withKind } from "../view/state.js";
import { tokenName } from "../view/shown.js";
import { FORMS, NAMES, read, unitResult } from "./unit_tables.mjs";

const shown = (result, more = {}) => {
  const state = { ...DEFAULTS, result, ...more };
  return [state, currentView(state)];
};

test("a column is as wide as it has tokens, within bounds", async () => {
  const words = await unitResult();
  assert.deepEqual([...startsOf(words.tokens(0))], [0, 1, 2, 3, 5, 6]);
  assert.deepEqual([...startsOf([{ count: 400 }, { count: 2 }, { count: 1 }])], [0, 6, 8, 9]);
  assert.equal(startsOf([{ position: 0 }, { position: 1 }]), null);
  const starts = startsOf(words.tokens(0));
  assert.deepEqual(
    [-0.1, 0, 0.9, 3, 4.9, 5, 6, 9].map((place) => indexAt(starts, place)),
    [-1, 0, 0, 3, 3, 4, 5, 5],
  );
});

test("wide columns are painted as wide, wherever the window lies", () => {
  const colStarts = Int32Array.of(0, 1, 4, 6);
  const painted = (left, width) => {
    const pixels = new Uint32Array(width);
    const window = { width, height: 1, cell: 2, left, top: 0, rows: 1, cols: 3, gap: 0, period: 6, colStarts };
    paintCells(
      pixels,
      window,
      (_, col) => col,
      Uint32Array.from({ length: 260 }, (_, code) => code + 1),
      9,
    );
    return [...pixels];
  };
  assert.deepEqual(painted(0, 13), [1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 0]);
  assert.deepEqual(painted(5, 4), [2, 2, 2, 3]);
});

test("the layout has room for wide columns and their positions", async () => {
  const [state, view] = shown((await unitResult()).ofKind("pairs"));
  const layout = layoutOf({
    view,
    state: { ...state, cell: 20 },
    room: { width: 1000, height: 500, ratio: 1, bar: 15 },
  });
  assert.deepEqual([layout.cols, layout.across, layout.width], [2, 8, 160]);
  const turned = layoutOf({
    view,
    state: { ...state, cell: 20, transposed: true },
    room: { width: 1000, height: 500, ratio: 1, bar: 15 },
  });
  assert.deepEqual([turned.rows, turned.down, turned.height], [2, 8, 160]);
});

test("running text: what the same units hold is one piece, and what none holds is told apart", async () => {
  const words = await unitResult();
  const text = (kind, cuts = []) =>
    unitPieces(words.ofKind(kind).tokens(1), words.seen(1), { overlap: kind !== "words", cuts }).map((piece) => [
      piece.gap ?? piece.text,
      piece.units ?? null,
    ]);
  assert.deepEqual(text("words"), [
    ["Anna", [0]],
    [" saw", [1]],
    [" the", [2]],
    [" Eiffel", [3]],
    [" Towers", [4]],
  ]);
  assert.deepEqual(text("words", [6]).slice(-2), [
    [" Tower", [4]],
    ["s", [4]],
  ]);
  assert.deepEqual(text("spans"), [
    ["Anna", [1]],
    [" saw the", null],
    [" Eiffel Tower", [0, 2]],
    ["s", null],
  ]);
  assert.deepEqual(
    unitPieces(words.tokens(0), [], { overlap: false }).map((piece) => piece.text),
    ["Anna", " saw", " the", " Eiffel", " Tower"],
  );
  assert.deepEqual(unitPieces(words.tokens(0), [], { overlap: true }), []);
});

test("with position 0 every unit that holds it is left out, and taken in again", async () => {
  const pairs = (await unitResult()).ofKind("pairs");
  const [first] = pairs.tokens(0);
  assert.equal(leftOut(new Set([0]), first), true);
  assert.deepEqual([...leftOutToggled(new Set([0, 4]), first)], [4]);
  const [, view] = shown(pairs);
  assert.deepEqual([...view.excludedMask], [1, 1]);
  const words = pairs.ofKind("words");
  assert.deepEqual(
    [...shown(words, { excluded: leftOutToggled(new Set(), words.tokens(0)[3]) })[1].excludedMask],
    [0, 0, 0, 1, 0],
  );
});

test("the kind, pins and what is left out survive the address", async () => {
  const words = await unitResult();
  const pairs = words.ofKind("pairs");
  const state = {
    ...DEFAULTS,
    result: pairs,
    metric: "interaction",
    pins: [0],
    excluded: new Set(["3-5", 2, "0,3-5"]),
  };
  const address = encodeState(state);
  assert.equal(address, "run=tower&units=pairs&pins=0.3-5&metric=interaction&excluded=0.3-5,2,3-5");
  const { look, place } = decodeState(address);
  const opened = forResult({ ...DEFAULTS, ...look }, words);
  assert.equal(opened.result, pairs);
  assert.deepEqual([opened.metric, placeIn(opened.result, place).pins], ["interaction", [0]]);
  assert.deepEqual([...look.excluded], ["0,3-5", 2, "3-5"]);
  assert.doesNotMatch(encodeState({ ...DEFAULTS, result: words }), /units/);
  assert.equal(decodeState("units=phrases").look.units, undefined);
});

test("another kind is the same run: its step stays, its pins go", async () => {
  const words = await unitResult();
  const state = { ...DEFAULTS, result: words, step: 1, variant: 1, pins: [2] };
  const next = withKind(state, "pairs");
  assert.deepEqual([next.result.kind, next.step, next.variant, next.pins, next.units], ["pairs", 1, 1, [], "pairs"]);
  const back = withKind({ ...state, ...next, metric: "interaction" }, "words");
  assert.deepEqual([back.result, back.metric], [words, "l2"]);
  assert.deepEqual([canShow(next.result, "interaction"), canShow(words, "interaction")], [true, false]);
});

test("at another step a unit is found again by all its positions", async () => {
  const words = await unitResult();
  const state = { ...DEFAULTS, result: words, pins: [4, 3], hover: { layer: 1, token: 3 } };
  assert.deepEqual(atStep(state, 1), { step: 1, pins: [3], hover: { layer: 1, token: 3 } });
  assert.deepEqual(atStep({ ...state, hover: { layer: 0, token: 4 } }, 1).hover, null);
});

test("what is left out for its first position is named beside the strongest", async () => {
  const pairs = (await unitResult()).ofKind("pairs");
  assert.equal(sinkWords(shown(pairs)[1]), ". Left out, as it holds position 0: place + seer");
  assert.equal(sinkWords(shown(pairs, { excluded: new Set() })[1]), "");
  assert.equal(sinkWords(shown(pairs.ofKind("words"))[1]), ""); // position 0 by itself
});

test("two steps are compared by all positions of a unit", async () => {
  const words = await unitResult();
  const [, view] = shown(words, { compare: { kind: "step", other: 1, mode: "difference" } });
  assert.deepEqual([...view.compared.tokenOf], [0, 1, 2, 3, -1]);
  assert.match(mismatch(view, view.compared), /^1 position is not in the other\. The other has 1 position more\.$/);
});

test("two runs are compared by the same kind", async () => {
  const [words, other] = [await unitResult(), await unitResult()];
  Object.assign(other, { id: "other" });
  const compare = { kind: "run", other: "other", mode: "side" };
  const [, view] = shown(words.ofKind("spans"), { compare, otherResult: other });
  assert.deepEqual(
    view.parts.map(({ place }) => place.result.kind),
    ["spans", "spans"],
  );
});

test("a unit is told by its kind and positions", async () => {
  const words = await unitResult();
  const [state, view] = shown(words);
  assert.match(spoken(state, view, 1, 3), /^·Eiffel, word, positions 3-4, layer 1\. L2 distance: 14\./);
  assert.match(spoken(state, view, 1, 4), /^·Tower, word, position 5, layer 1\./);
  assert.equal(tokenName(words.tokens(0)[3]), "·Eiffel at 3-4");
  const [pairState, pairView] = shown(words.ofKind("pairs"), { metric: "interaction", excluded: new Set() });
  assert.match(
    spoken(pairState, pairView, 0, 0),
    /^place \+ seer, pair, positions 0,3-5, layer 0\. interaction \(L2\): 0\.9\./,
  );
  assert.match(spoken(pairState, pairView, 0, 1), /No interaction is told from noise here\./);
});

test("the CSV of a view is a result again", async () => {
  const pairs = (await unitResult()).ofKind("pairs");
  const text = csvPieces(csvOf(...shown(pairs, { metric: "interaction", variant: 1, step: 1 }))).join("");
  assert.equal(text.split("\r\n")[0], NAMES.map((name) => `"${name}"`).join(","));
  assert.equal(text.split("\r\n")[1], '1,0,"place + seer",0,"Head_0",69,0.69,"pairs","0,3-5",6.9');
  const again = await read(text);
  assert.deepEqual([again.parts[0].kind, again.rows, again.parts[0].tokens[0].where[0]], ["pairs", 4, "0,3-5"]);
  const words = pairs.ofKind("words");
  assert.equal(
    csvPieces(csvOf(...shown(words)))
      .join("")
      .split("\r\n")[4],
    '0,0," Eiffel",3,"Full",4,0.04,"words","3-4"',
  );
});

test("the SVG has columns of their widths, and says what they are", async () => {
  const words = await unitResult();
  const [state, view] = shown(words, { excluded: new Set() });
  const picture = pictureOf(state, view);
  assert.match(picture.caption, /^L2 distance when a word is masked\./);
  assert.equal(fileStem(state), "tower_step0_Full_l2_words");
  const text = svgText(picture, null);
  assert.match(text, /<title>positions 3-4<\/title>/);
  const cells = text
    .slice(text.indexOf('shape-rendering="crispEdges"'))
    .match(/<rect [^>]+ width="\d+"/g)
    .slice(0, 5);
  assert.deepEqual(
    cells.map((rect) => Number(/width="(\d+)"/.exec(rect)[1])),
    [16, 16, 16, 32, 16],
  );
  const turned = svgText({ ...picture, transposed: true }, null);
  assert.match(turned, /width="16" height="32"/);
});

test("a picture that is too long is cut between units", async () => {
  const [state, view] = shown(await unitResult());
  const tokens = Array.from({ length: 7 }, (_, at) => ({
    text: "w",
    position: 6 * at,
    where: `${6 * at}-${6 * at + 5}`,
    count: 6,
  }));
  const picture = { ...pictureOf(state, view), tokens, starts: startsOf(tokens), shade: () => 0, struck: () => false };
  const planned = plan(picture, { side: 500, area: 1e9 }, [16]);
  assert.deepEqual(
    planned.bands.map(({ from, to, wide }) => [from, to, wide]),
    [
      [0, 3, 18],
      [3, 6, 18],
      [6, 7, 6],
    ],
  );
  assert.equal(planned.bands[1].y - planned.bands[0].y, planned.bands[2].y - planned.bands[1].y);
});

test("a unit's patches are known by the run's texts", () => {
  const texts = ["<s>", "img0[0,0]", "img0[0,1]", "img0[1,0]", "img0[1,1]"];
  const token = { text: "img0", position: 1, type: "vision", image: 0, row: null, col: null };
  const whole = { ...token, unit: "images", where: "1-4", ranges: [[1, 4]], count: 4 };
  assert.deepEqual([...patchGrid([whole], 0, [2, 2], texts).tokens], [0, 0, 0, 0]);
  assert.deepEqual([...patchGrid([{ ...whole, ranges: [[2, 3]], count: 2 }], 0, [2, 2], texts).tokens], [-1, 0, 0, -1]);
  assert.deepEqual([...patchGrid([whole], 0, [2, 2]).tokens], [-1, -1, -1, -1]);
});

test("a conversation is labelled by its user's last message, cut", () => {
  const messages = [
    { role: "system", content: "Be brief." },
    { role: "user", content: "Hello" },
    { role: "assistant", content: "Hi" },
    { role: "user", content: "x".repeat(300) },
    { role: "assistant", content: "Well" },
  ];
  const of = (settings) => promptLabel({ settings });
  assert.equal(of({ prompt: "", messages }), `${"x".repeat(200)}…`);
  assert.equal(of({ prompt: "asked", messages }), "asked");
  assert.equal(
    of({ messages: [{ role: "user", content: [{ type: "image" }, { type: "text", text: "What?" }] }] }),
    "What?",
  );
  for (const settings of [undefined, {}, { messages: "?" }, { messages: [null, { role: "user" }] }])
    assert.equal(of(settings), "");
});

test("the list of runs has a conversation's label", async () => {
  const { createOpener } = await import("../read/opening.js");
  const settings = { prompt: "", messages: [{ role: "user", content: "Where is the key?" }] };
  const files = [
    new File([FORMS.csv([])], "chat_results.csv"),
    new File([JSON.stringify({ schema_version: 1, status: "complete", settings })], "chat_run.json"),
  ];
  const labels = [];
  await createOpener(null)(files, { onResult: ({ label }) => labels.push(label) });
  assert.deepEqual(labels, ["Where is the key?"]);
});
