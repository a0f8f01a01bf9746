import assert from "node:assert/strict";
import { test } from "node:test";

import { shortNames } from "../view/shortnames.js";

const COUNTRIES = (
  "France Finland Spain Portugal Austria Australia Chad China Japan Norway Sweden Kenya Nigeria Algeria Libya Liberia " +
  "Germany Italy Greece Turkey India Indonesia Iran Iraq Ireland Iceland Peru Chile Cuba"
).split(" ");

function assertTold(names, most, widest = most) {
  const shown = shortNames(names, most);
  assert.equal(new Set(shown).size, names.length);
  const columns = shown.map((name) =>
    [...name].reduce((sum, letter) => sum + (/[\u4e00-\u9fff]/.test(letter) ? 2 : 1), 0),
  );
  assert.ok(Math.max(...columns) <= widest, shown.join("\n"));
  return shown;
}

test("names that differ in their middle show it", () => {
  const shown = assertTold(
    COUNTRIES.map((name) => `the_capital_of_${name}_is_the_city_of`),
    30,
  );
  assert.equal(COUNTRIES.length, 29);
  assert.equal(shown[0], "the_capital_of_France...ity_of");
  COUNTRIES.forEach((name, index) => assert.ok(shown[index].includes(name)));
});

test("names that differ only at the start or only at the end show that", () => {
  const rest = "_and_all_that_follows_is_the_same_for_each_of_them";
  const first = assertTold(
    COUNTRIES.map((name) => name + rest),
    30,
  );
  const last = assertTold(
    COUNTRIES.map((name) => rest + name),
    30,
  );
  COUNTRIES.forEach((name, index) => assert.ok(first[index].startsWith(name) && last[index].endsWith(name)));
});

test("wide characters take two columns, and none is cut in two", () => {
  const shown = assertTold(
    ["法国", "西班牙", "日本", "中国"].map(
      (name) => `请告诉我这个国家的首都是哪一座城市我想知道${name}的首都在哪里并且有多少人口`,
    ),
    30,
  );
  assert.ok(shown.every((name) => name.includes("...")));
  assertTold(
    ["𝒂", "𝒃"].map((letter) => "𝒙".repeat(40) + letter + "𝒙".repeat(40)),
    30,
  ).forEach((name) => assert.doesNotMatch(name, /\p{Surrogate}/u));
});

test("a name that is another's beginning stays another", () => {
  assertTold(["same_again_".repeat(5), `${"same_again_".repeat(5)}2`, `${"same_again_".repeat(5)}2_3`], 30);
});

test("where the columns are too few they grow, and names that fit stay as they are", () => {
  const bits = [..."01"].flatMap((a) => [..."01"].flatMap((b) => [..."01"].map((c) => [a, b, c].join("_".repeat(30)))));
  assertTold(bits, 30, 63);
  assert.deepEqual(shortNames(["a", "b"], 30), ["a", "b"]);
  assert.deepEqual(shortNames([], 30), []);
  assert.deepEqual(shortNames(["x".repeat(40)], 30), [`${"x".repeat(13)}...${"x".repeat(14)}`]);
});
