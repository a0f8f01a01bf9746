import assert from "node:assert/strict";
import { test } from "node:test";

import { LIMITS, plan, textWidth, wrapped } from "../export/layout.js";
import { MOST_RECTANGLES, escaped, svgText } from "../export/svg.js";

const colours = Array.from({ length: 256 }, (_, index) => `#0000${index.toString(16).padStart(2, "0")}`);
const grounds = { flat: "#eeeeee", undefined: "#ffffff", excluded: "#ffffff", absent: "#ffffff" };

function picture(texts, layers, more = {}) {
  return {
    title: "run <1>",
    caption: "step 0, Full, L2 distance",
    colours,
    grounds,
    layers: Array.from({ length: layers }, (_, layer) => layer),
    tokens: texts.map((text, position) => ({ text, position })),
    shade: (layer, token) => (token === 0 ? "excluded" : (layer * 16 + token) % 256),
    maxima: Array.from({ length: layers }, (_, layer) => `${layer}.5`),
    struck: () => false,
    floored: false,
    legend: { name: "L2 distance", low: "0", high: "largest" },
    transposed: false,
    ...more,
  };
}

/** Elements in order; throws where tags do not match. A strict reader of what our own writer may write. */
function elements(xml) {
  const open = [];
  const found = [];
  for (const [, close, name, attributes, alone] of xml.matchAll(
    /<(\/?)([a-zA-Z]+)((?:\s+[a-zA-Z:-]+="[^"<]*")*)\s*(\/?)>/g,
  )) {
    if (close) assert.equal(open.pop(), name);
    else {
      found.push({ name, attributes });
      if (!alone) open.push(name);
    }
  }
  assert.deepEqual(open, []);
  assert.doesNotMatch(
    xml.replace(/<(\/?)([a-zA-Z]+)((?:\s+[a-zA-Z:-]+="[^"<]*")*)\s*(\/?)>/g, ""),
    /[<>]|&(?!amp;|lt;|gt;|quot;)/,
  );
  return found;
}

test("hostile tokens are text in the SVG", () => {
  const hostile = [
    "</script>",
    '<img onerror="x">',
    "&amp;",
    "\n",
    "\r",
    "שלום",
    "\u202e",
    "😀",
    "",
    "x".repeat(10_000),
    "\u0000",
    "\uffff",
  ];
  const svg = svgText(picture(hostile, 2), () => assert.fail("no raster"));
  elements(svg);
  for (const text of [
    "&lt;/script&gt;",
    "&lt;img onerror=&quot;x&quot;&gt;",
    "&amp;amp;",
    ">⏎<",
    ">␍<",
    "שלום",
    "U+202E",
    "😀",
    "∅",
    "xxxxx…",
    "U+0000",
    "U+FFFF",
    "run &lt;1&gt;",
  ]) {
    assert.ok(svg.includes(text), text);
  }
  assert.doesNotMatch(svg, /[\u0000-\u0008\u202e\uffff]|x{30}/);
});

test("one rectangle for each cell, each of its colour, and the maxima beside", () => {
  const svg = svgText(picture(["a", "b", "c"], 2), null);
  const rects = elements(svg).filter(
    ({ name, attributes }) => name === "rect" && /fill="(#0000|url\(#excluded)/.test(attributes),
  );
  assert.equal(rects.length, 6 + 1); // and the legend's sample
  assert.ok(svg.includes('fill="#000012"')); // layer 1, token 2
  assert.ok(svg.includes(">1.5<") && svg.includes("left out of the scale"));
});

test("above the limit cells are an image, and text stays text", () => {
  const texts = Array.from({ length: MOST_RECTANGLES / 10 + 1 }, (_, index) => `t${index}`);
  const svg = svgText(picture(texts, 10), (from, to) => `data:image/png;base64,${from}-${to}`);
  const found = elements(svg);
  assert.ok(found.filter(({ name }) => name === "image").length >= 1);
  assert.ok(found.filter(({ name }) => name === "rect").length < 20);
  assert.ok(svg.includes(">t1234<"));
});

test("escaped leaves no mark-up", () => {
  assert.equal(escaped(`<a b="c">&'`), "&lt;a b=&quot;c&quot;&gt;&amp;'");
});

test("a plan keeps within the limits and shows every token once", () => {
  for (const [tokens, layers, transposed] of [
    [1, 1, false],
    [30, 28, false],
    [2000, 36, false],
    [16_000, 64, false],
    [16_000, 64, true],
    [50_000, 100, false],
  ]) {
    const planned = plan(picture(Array(tokens).fill("token"), layers, { transposed }));
    assert.ok(
      planned.width <= LIMITS.side && planned.height <= LIMITS.side && planned.width * planned.height <= LIMITS.area,
    );
    assert.equal(planned.bands[0].from, 0);
    planned.bands.forEach((band, index) => assert.equal(band.to, planned.bands[index + 1]?.from ?? tokens));
    for (const band of planned.bands) {
      const [along, across] = [(band.to - band.from) * planned.cell, layers * planned.cell];
      assert.ok(
        band.x + (transposed ? across : along) <= planned.width &&
          band.y + (transposed ? along : across) <= planned.height,
      );
    }
  }
  assert.equal(plan(picture(["a", "b"], 3)).cell, 16);
});

test("what cannot be drawn at all is refused", () => {
  assert.equal(
    plan({ ...picture([], 100_000), tokens: Array(2000).fill({ text: "a", position: 0 }), shade: () => 0 }),
    null,
  );
});

test("widths of texts: wide letters count whole", () => {
  assert.equal(textWidth("abcde", 10), 30);
  assert.equal(textWidth("東京", 10), 20);
  assert.equal(textWidth("😀", 10), 10);
  assert.deepEqual(wrapped("one two three", 10, 45), ["one two", "three"]);
});
