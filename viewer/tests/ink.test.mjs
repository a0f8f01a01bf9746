import assert from "node:assert/strict";
import { test } from "node:test";

import { inkOn, luminance } from "../view/ink.js";

test("luminance of known colours", () => {
  assert.equal(luminance(0, 0, 0), 0);
  assert.ok(Math.abs(luminance(255, 255, 255) - 1) < 1e-12);
  assert.ok(Math.abs(luminance(119, 119, 119) - 0.1845) < 1e-3);
});

test("black or white has a contrast of at least 4.5 on every colour", () => {
  for (let red = 0; red < 256; red += 15) {
    for (let green = 0; green < 256; green += 15) {
      for (let blue = 0; blue < 256; blue += 15) {
        const ground = luminance(red, green, blue);
        const contrast = inkOn(red, green, blue) === "#000" ? (ground + 0.05) / 0.05 : 1.05 / (ground + 0.05);
        assert.ok(contrast >= 4.5, `${red},${green},${blue}: ${contrast}`);
      }
    }
  }
});
