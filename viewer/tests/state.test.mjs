import assert from "node:assert/strict";
import test from "node:test";

import { fakeResult } from "./fake.mjs";
import { mismatch } from "../view/align.js";
import { decodeState, encodeState, placeIn } from "../view/hash.js";
import { DEFAULTS, createStore, currentView, forResult, otherView } from "../view/state.js";

test("listeners hear what changed, and nothing where nothing did", () => {
  const store = createStore();
  const heard = [];
  store.subscribe((state, changed) => heard.push([...changed]));
  store.set({ step: 1, curve: "sqrt" });
  store.set({ step: 1 });
  store.set({ hover: { layer: 1, token: 2 } });
  store.set({ hover: { layer: 1, token: 2 } });
  assert.deepEqual(heard, [["step"], ["hover"]]);
});

test("a state survives the address", () => {
  const result = fakeResult({ steps: 3, name: "a & b,=%/#ü" });
  const state = {
    ...DEFAULTS,
    result,
    step: 2,
    variant: 3,
    metric: "cosine",
    normalise: "steps",
    curve: "log",
    palette: "cividis",
    transposed: true,
    cell: 24,
    excluded: new Set([4, 0]),
    pins: [5, 1],
    layerChoice: 1,
    search: "x&y",
    compare: { kind: "step", other: 0, mode: "difference" },
  };
  const { run, look, place } = decodeState("#" + encodeState(state));
  assert.equal(run, result.id);
  const found = { ...DEFAULTS, result, ...look, ...placeIn(result, place) };
  assert.deepEqual({ ...found, excluded: [...found.excluded].sort() }, { ...state, excluded: [0, 4] });
});

test("the start has an empty address, and a run only its name", () => {
  assert.equal(encodeState(DEFAULTS), "");
  assert.equal(encodeState({ ...DEFAULTS, result: fakeResult({ name: "r" }) }), "run=r");
});

test("no exclusion is another thing than none given", () => {
  assert.deepEqual([...decodeState(encodeState({ ...DEFAULTS, excluded: new Set() })).look.excluded], []);
  assert.equal(decodeState("").look.excluded, undefined);
});

test("what makes no sense in an address is not there", () => {
  const odd =
    "#metric=l3&curve=&palette=jet&step=-1&variant=Head_99&pins=1,x&excluded=,&cell=999&compare=step:both:1&text=9&zzz=1&=&%E0%A4%A=1&run=%E0%A4%A&transposed=yes";
  const { run, look, place } = decodeState(odd);
  assert.equal(run, null);
  assert.deepEqual(look, {});
  assert.deepEqual(placeIn(fakeResult(), place), { step: 0, variant: 0, pins: [], compare: null });
});

test("the view has the relative distance, and is kept while nothing that shapes it changes", () => {
  const result = fakeResult();
  const state = { ...DEFAULTS, result, metric: "relative" };
  const view = currentView(state);
  const { values } = result.peek(0, 0, "l2");
  assert.equal(view.values[view.cols + 2], values[view.cols + 2] / result.norm(0, 0, 1));
  assert.equal(view.floors[1], result.floor(0, 0, 1, "l2") / result.norm(0, 0, 1));
  assert.deepEqual([...view.excludedMask], [1, 0, 0, 0, 0, 0]);
  assert.equal(currentView({ ...state, hover: { layer: 0, token: 1 }, pins: [1] }), view);
  assert.notEqual(currentView({ ...state, curve: "log" }), view);
});

test("across steps: by the run file, or over what is read", () => {
  const state = { ...DEFAULTS, result: fakeResult({ steps: 3 }), normalise: "steps" };
  const recorded = currentView(state).scale;
  assert.match(recorded.sentence, /by the run file/);
  const computed = currentView({ ...state, result: fakeResult({ steps: 3, run: false }) }).scale;
  assert.match(computed.sentence, /all steps/);
  assert.deepEqual([...recorded.tops], [...computed.tops]);
  assert.doesNotMatch(currentView({ ...state, excluded: new Set([0, 3]) }).scale.sentence, /run file/);
});

test("two steps as a difference: by position, absent where one has none", () => {
  const result = fakeResult({ steps: 2, tokens: 4 });
  const state = { ...DEFAULTS, result, step: 1, compare: { kind: "step", other: 0, mode: "difference" } };
  const view = currentView(state);
  const [one, other] = [result.peek(1, 0, "l2"), result.peek(0, 0, "l2")];
  assert.equal(view.values[1 * 5 + 2], one.values[5 + 2] - other.values[4 + 2]);
  assert.deepEqual([...view.absent], [0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
  assert.ok(view.scale.signed);
  assert.equal(mismatch(view, view.compared), "1 position is not in the other.");
});

test("two runs side by side share their scale, layer by layer", () => {
  const [result, otherResult] = [fakeResult({ name: "a", layers: 2 }), fakeResult({ name: "b", layers: 3, tokens: 9 })];
  const state = { ...DEFAULTS, result, otherResult, compare: { kind: "run", other: otherResult.id, mode: "side" } };
  const [view, other] = [currentView(state), otherView(state)];
  assert.deepEqual([...view.scale.tops], [...other.scale.tops.slice(0, 2)]);
  assert.equal(view.scale.tops[0], Math.max(view.scale.rowMax[0], other.scale.rowMax[0]));
  assert.match(mismatch(view, view.compared), /The other has 3 positions more. The other has 1 layer more./);
});

test("another run keeps the look and the variant's name, not the pins", () => {
  const state = { ...DEFAULTS, result: fakeResult(), step: 1, variant: 2, pins: [1], metric: "relative", curve: "log" };
  const other = { ...fakeResult({ name: "other", run: false }) };
  const { step, variant, pins, metric } = forResult(state, other);
  assert.deepEqual({ step, variant, pins, metric }, { step: 0, variant: 2, pins: [], metric: "l2" });
});
