import assert from "node:assert/strict";
import test from "node:test";

import { fakeResult } from "./fake.mjs";
import { cellFacts, exact, placeText, spoken } from "../view/cell.js";
import { strongestCell } from "../view/lead.js";
import { matchesOf } from "../view/search.js";
import { tokenColours } from "../view/shown.js";
import { DEFAULTS, currentView } from "../view/state.js";

const tokens = (...texts) => texts.map((text, position) => ({ text, position }));

test("tokens are found without regard to case, wherever the text stands in them", () => {
  assert.deepEqual(matchesOf(tokens("The", " other", " one", "THE"), "the"), [0, 1, 3]);
  assert.deepEqual(matchesOf(tokens("a", "b"), ""), []);
  assert.deepEqual(matchesOf(tokens("a", "b"), "c"), []);
  assert.deepEqual(matchesOf(tokens("a.b", "axb"), "."), [0]);
});

test("a text that runs over several tokens is found where it begins", () => {
  assert.deepEqual(matchesOf(tokens("The", " blue", " bag", " is", " blue", " bag"), "blue bag"), [1, 4]);
  assert.deepEqual(matchesOf(tokens("the", "t", "he"), "the"), [0]);
});

test("a cell says its value, its share, and what to think of it", () => {
  const state = { ...DEFAULTS, result: fakeResult({ nan: true, absent: true }) };
  const view = currentView(state);
  const facts = cellFacts(state, view, 1, 2);
  assert.equal(Number(facts.value), view.values[view.cols + 2]);
  assert.match(facts.measure, /^L2 distance: [\d.e-]+$/);
  assert.match(facts.relation, /of the layer's largest/);
  assert.equal(cellFacts(state, view, 0, 2).value, "undefined");
  assert.match(cellFacts(state, view, 1, 0).relation, /Left out of the scale/);
  const head = { ...state, variant: 2 };
  assert.equal(cellFacts(head, currentView(head), 2, 1).value, "absent");
  assert.match(spoken(state, view, 1, 2), /position 2, layer 1\. L2 distance/);
});

test("a cell at the noise floor says so", () => {
  const state = { ...DEFAULTS, result: fakeResult() };
  const view = { ...currentView(state), floors: [null, 1e9, null] };
  assert.match(cellFacts(state, view, 1, 2).relation, /^At or below the noise floor/);
});

test("a difference tells both values", () => {
  const state = { ...DEFAULTS, result: fakeResult(), compare: { kind: "variant", other: 1, mode: "difference" } };
  assert.match(cellFacts(state, currentView(state), 1, 2).others, / here, .* in the other\.$/);
});

test("values have all their digits and no more", () => {
  assert.deepEqual([0.1, Math.fround(0.1), 0, NaN, 1e-45].map(exact), [
    "0.1",
    "0.1",
    "0",
    "undefined",
    String(Number("1e-45")),
  ]);
  assert.equal(
    placeText({ position: 7, type: "vision", image: 0, row: 3, col: 5 }),
    "position 7, image 0, row 3, column 5",
  );
});

test("over all layers a token's colour is on one scale, so that only the strongest of all has the last colour", () => {
  const state = { ...DEFAULTS, result: fakeResult({ tokens: 11, layers: 5 }) };
  const view = currentView(state);
  const last = (choice) => {
    const of = tokenColours({ ...state, layerChoice: choice }, view);
    return view.tokens.map((_, token) => of(token).code).filter((code) => code === 255).length;
  };
  assert.deepEqual(["max", 0, 1, 2, 3, 4].map(last), [1, 1, 1, 1, 1, 1]);
  const strongest = view.tokens
    .map((_, token) => token)
    .sort((a, b) => tokenColours(state, view)(b).strength - tokenColours(state, view)(a).strength)[0];
  assert.equal(strongest, strongestCell(view).token);
});
