import assert from "node:assert/strict";
import test from "node:test";

import { NumberReader } from "../read/numbers.js";
import { randomNumbers } from "./fake.mjs";

const bytesOf = (text) => new TextEncoder().encode(`${text},\0`);

function read(text, float32) {
  const numbers = new NumberReader(float32);
  return { value: numbers.read(bytesOf(text), 0), end: numbers.end, wide: numbers.wide };
}

const TEXTS = [
  "0",
  "-0",
  "1",
  "-1",
  "7",
  "0.1",
  "0.30000001",
  "123456789",
  "9007199254740993",
  "0.0068857367",
  "2.7710885e-7",
  "1E5",
  "1e+5",
  "0.00002154466",
  "3.554673e-15",
  "1.2345678e-23",
  "1e-44",
  "1.1e-45",
  "7.038531e-26",
  "3.4028235e38",
  "5.877472e-39",
  "0.10000000149011612",
  "123456789012345678901234567890",
  "0.000000000000000000000000000000000000000012345678",
  "1e22",
  "1e23",
  "4.5e-5",
];

test("a number is what Number() makes of its text, rounded to float32 or not at all", () => {
  for (const text of TEXTS) {
    assert.equal(read(text, false).value, Number(text), text);
    assert.equal(Math.fround(read(text, true).value), Math.fround(Number(text)), text);
    assert.equal(read(text, true).end, text.length);
  }
});

test("20,000 random float32 come back bit by bit from their shortest texts and from longer ones", () => {
  const random = randomNumbers(7);
  const bits = new Uint32Array(1);
  const float = new Float32Array(bits.buffer);
  for (let count = 0; count < 20_000; count++) {
    bits[0] = random() * 0x7f800000;
    const value = float[0];
    for (const text of [String(value), value.toPrecision(9), value.toExponential(7)]) {
      assert.equal(Math.fround(read(text, true).value), Math.fround(Number(text)), text);
    }
  }
});

test("random float64 come back from their shortest texts", () => {
  const random = randomNumbers(9);
  for (let count = 0; count < 20_000; count++) {
    const text = String(random() * 10 ** Math.floor(60 * random() - 40));
    assert.equal(read(text, false).value, Number(text), text);
  }
});

test("only numbers that float32 does not hold are wide", () => {
  for (const text of ["0", "0.1", "123456789", "0.10000000149011612", "1e-44", "3.4028235e38", "100000000000"]) {
    assert.equal(read(text, true).wide, false, text);
  }
  for (const text of ["0.1234567891234", "3.5e38", "1e-60", "9007199254740995", "0.12345678912345678"]) {
    assert.equal(read(text, true).wide, true, text);
  }
});

test("what is no number leaves its place", () => {
  for (const text of ["", "null", "NaN", "-", ".", "-.", "e5", "+1", '"1"']) {
    assert.deepEqual(read(text, true), { value: NaN, end: 0, wide: false }, text);
  }
  assert.deepEqual([read("1e", true).end, read("1e+", true).end, read("1.2.3", true).end], [1, 1, 3]);
});

test("a number that the window cuts in two is not wide yet", () => {
  for (const text of ["1.0499999802959", "1.0499999802959792e", "1.0499999802959792e-"]) {
    const numbers = new NumberReader(true);
    numbers.read(new TextEncoder().encode(`${text}\0`), 0);
    assert.equal(numbers.wide, false, text);
  }
});
