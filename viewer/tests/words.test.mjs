import assert from "node:assert/strict";
import { test } from "node:test";

import { header, running, visible } from "../view/words.js";

const SHOWN = [
  ["blue", "blue"],
  [" blue", "·blue"],
  ["blue  ", "blue··"],
  ["a b", "a b"],
  ["a  b", "a··b"],
  ["   ", "···"],
  ["", "∅"],
  ["\n", "⏎"],
  [" \n\n", "·⏎⏎"],
  ["\r\n", "␍⏎"],
  ["\t", "⇥"],
  ["\u0000", "U+0000"],
  ["\u007f", "U+007F"],
  ["a\u202eb", "aU+202Eb"],
  ["\u2066x\u2069", "U+2066xU+2069"],
  ["\u200b", "U+200B"],
  ["\ufeff", "U+FEFF"],
  ["\u00a0x", "U+00A0x"],
  ["\u3000", "U+3000"],
  ["\u2028", "U+2028"],
  ["\u00ad", "U+00AD"],
  ["\ud800", "U+D800"],
  ["\uffff", "U+FFFF"],
  ["\u{e0041}", "U+E0041"],
  ["\u0301", "◌\u0301"],
  ["\ufe0f", "U+FE0F"],
  ["\u200d", "U+200D"],
  ["a\u200db", "aU+200Db"],
  ["👩\u200d🔬", "👩\u200d🔬"],
  ["❤\ufe0f", "❤\ufe0f"],
  ["می\u200cخواهم", "می\u200cخواهم"],
  ["שלום", "שלום"],
  ["</script>", "</script>"],
  ["<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"],
  ["Ġthe", "Ġthe"],
  ["0", "0"],
];

test("what cannot be seen is shown, all else stays", () => {
  for (const [text, shown] of SHOWN) assert.equal(visible(text), shown, JSON.stringify(text));
});

test("running text keeps the space between words, and ends lines", () => {
  assert.equal(running(" blue"), " blue");
  assert.equal(running("  blue"), "··blue");
  assert.equal(running(" "), "·");
  assert.equal(running(".\n\n"), ".⏎\n⏎\n");
  assert.equal(running("\r\n"), "␍⏎\n");
  assert.equal(running(""), "∅");
});

test("headers are at most so many characters", () => {
  assert.equal(header("blue", 4), "blue");
  assert.equal(header(" blue", 4), "·bl…");
  assert.equal(header("abcdef", 4), "abc…");
  assert.equal(header("👩\u200d🔬👩\u200d🔬👩\u200d🔬", 3), "👩\u200d🔬👩\u200d🔬👩\u200d🔬");
  assert.equal(header("👩\u200d🔬👩\u200d🔬👩\u200d🔬", 2), "👩\u200d🔬…");
  assert.equal(header("\u202e\u202e\u202e", 2), "U+202E…");
  assert.equal(header("x".repeat(10_000), 8), "xxxxxxx…");
  assert.equal(header("", 1), "∅");
  assert.equal(header("ab", 1), "…");
});

test("a very long text is cut before it is looked at", () => {
  const own = String.prototype.replace;
  let longest = 0;
  String.prototype.replace = function (...words) {
    longest = Math.max(longest, this.length);
    return own.apply(this, words);
  };
  try {
    header("\u202e".repeat(5_000_000), 12);
  } finally {
    String.prototype.replace = own;
  }
  assert.ok(longest > 0 && longest < 10_000);
});
