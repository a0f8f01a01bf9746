/**
 * Runs the code of a first heatmap once on a made-up one that nobody sees, while the page waits for a file: a browser
 * compiles code when it first runs, which took more than half of the 25 ms that the first heatmap took.
 */
import { paletteOf, pixel } from "./colours.js";
import { createAxis } from "./axes.js";
import { brief } from "./numbers.js";
import { paintCells } from "./pixels.js";
import { createScale } from "./scale.js";
import { header } from "./words.js";

const [ROWS, COLS, CELL] = [32, 64, 14];

export function warmUp() {
  const palettes = [false, true].map((dark) => paletteOf("viridis", dark));
  const values = Float32Array.from({ length: ROWS * COLS }, (_, place) => (place * 7919) % 1000);
  const excluded = Uint8Array.from({ length: COLS }, (_, col) => (col === 0 ? 1 : 0));
  const [width, height] = [COLS * CELL, ROWS * CELL];
  const pixels = new Uint32Array(width * height);
  for (const { packed, grounds } of palettes) {
    const { code } = createScale({
      values,
      rows: ROWS,
      cols: COLS,
      absent: null,
      floors: new Array(ROWS).fill(null),
      excluded,
      normalise: "layer",
      curve: "sqrt",
    });
    paintCells(
      pixels,
      { width, height, cell: CELL, left: 0, top: 0, rows: ROWS, cols: COLS, gap: 1, period: 6 },
      code,
      packed,
      pixel(grounds.ink),
    );
  }
  const labels = { first: 0, last: COLS - 1, every: 1, cell: CELL, scrolled: 0, turned: true, size: 12, version: 0 };
  createAxis("top").show({
    ...labels,
    text: (token) => header(` é${"\n".repeat(token % 3)}東${brief(token / 7)}`, 18),
  });
}
