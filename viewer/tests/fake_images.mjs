/** A small made-up run with two images, for tests of what is drawn of them. */
import { makeResult } from "../read/result.js";
import { randomNumbers } from "./fake.mjs";

/** A 2 x 2 picture, red, green, blue and white. */
export const PICTURE =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAFElEQVR4nGP4z8DAAMIM/4GAAQAl6gX8s5sM9wAAAABJRU5ErkJggg==";

/** Text, an image of 3 x 4 patches, text, one of 2 x 2, text: 3 layers, Full and two heads. */
export function imagesResult({ steps = 2, uri = PICTURE } = {}) {
  const variants = ["Full", "Head_0", "Head_1"];
  const words = ["Look", " at", " and", ":"];
  const places = [];
  const codes = [];
  const text = (code) => {
    codes.push(code);
    places.push(-1, -1, -1);
  };
  const picture = (image, rows, cols) => {
    for (let patch = 0; patch < rows * cols; patch++) {
      const [row, col] = [Math.floor(patch / cols), patch % cols];
      codes.push(words.push(`img${image}[${row},${col}]`) - 1);
      places.push(image, row, col);
    }
  };
  text(0);
  text(1);
  picture(0, 3, 4);
  text(2);
  picture(1, 2, 2);
  text(3);
  const tokens = Array.from({ length: steps }, (_, step) => ({
    positions: Int32Array.from({ length: codes.length + step }, (_, position) => position),
    codes: Int32Array.from([...codes, ...Array(step).fill(1)]),
    places: Int32Array.from([...places, ...Array(3 * step).fill(-1)]),
  }));
  const random = randomNumbers(11);
  const block = (count) => {
    const l2 = Float32Array.from({ length: 3 * count }, () => random() ** 3);
    return { l2, cosine: l2.map((value) => value / 2), absent: null };
  };
  const table = {
    steps: tokens.map((_, step) => step),
    variants,
    layers: [0, 1, 2],
    words,
    tokens,
    blocks: tokens.map(({ codes: all }) => variants.map(() => block(all.length))),
    rows: 0,
  };
  const run = {
    schema_version: 1,
    status: "complete",
    prompt_length: codes.length,
    layers: [0, 1, 2],
    variants,
    images: [
      { width: 80, height: 60, resized: [60, 80], grid: [3, 4], uri },
      { width: 64, height: 64, resized: [64, 64], grid: [2, 2], uri: null },
    ],
  };
  return makeResult(table, { id: "images", name: "images", sources: [], run, notes: [] });
}
