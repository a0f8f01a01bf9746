/**
 * Where everything stands in a picture of a whole heatmap: pure arithmetic in pixels, the same for PNG and SVG.
 *
 * A heatmap that is longer than a canvas can be is cut into bands of tokens, one below the other (beside the other where
 * tokens are rows), with as large a cell as fits.
 */
import { middleAt, positionWords, startAt } from "../view/columns.js";
import { header } from "../view/words.js";

/** @typedef {number|"flat"|"undefined"|"excluded"|"absent"} Shade   0..255 in the palette, or what is drawn instead */

/**
 * @typedef {object} Picture
 * @property {string} title
 * @property {string} caption
 * @property {number[]} layers
 * @property {{text: string, position: number}[]} tokens
 * @property {ArrayLike<number>|null} [starts]   where tokens begin, in cells, if they are not one cell wide each
 * @property {(layer: number, token: number) => Shade} shade   by indices
 * @property {string[]} colours          256 of #rrggbb
 * @property {Record<string, string>} grounds   #rrggbb of each other shade
 * @property {string[]} maxima           beside each layer; "" for none
 * @property {(token: number) => boolean} struck   left out: its label has a line through it
 * @property {boolean} floored           there are noise floors
 * @property {{name: string, low: string, middle?: string, high: string}} legend
 * @property {boolean} transposed        tokens are rows
 * @property {string} [row]              what a layer is called, if not that
 */

export const CELLS = [16, 14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1];
/** Chromium draws canvases of 16,384 on a side; 64 million pixels take 256 MB. */
export const LIMITS = { side: 16_384, area: 64e6 };
export const SHADES = {
  flat: "at or below the noise floor",
  undefined: "undefined",
  excluded: "left out of the scale",
  absent: "not in the table",
};

const MARGIN = 16;
const GAP = 18;
const MOST_CHARACTERS = 18;
const LEAST_TEXT_WIDTH = 420;
const BAR = { width: 200, height: 12 };

/** Width of a text in a sans-serif font: what is at least as wide as a letter of the East counts whole, all else 0.6. */
export function textWidth(text, size) {
  let ems = 0;
  for (const sign of text) ems += sign.codePointAt(0) >= 0x1100 ? 1 : 0.6;
  return Math.ceil(ems * size);
}

/** Lines of at most `width`, broken at spaces; a single word may be longer. */
export function wrapped(text, size, width) {
  const lines = [];
  for (const word of text.split(" ")) {
    const longer = lines.length ? `${lines.at(-1)} ${word}` : word;
    if (lines.length && textWidth(longer, size) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/**
 * The plan with the largest cell that keeps within the limits, in as few bands as that cell allows.
 * @param {Picture} picture
 * @returns {object|null} null where not even cells of one pixel fit
 */
export function plan(picture, limits = LIMITS, cells = CELLS) {
  const labels = picture.tokens.map(({ text }) => header(text, MOST_CHARACTERS));
  const samples = used(picture);
  for (const cell of cells) {
    const planned = planAt(picture, labels, samples, cell, limits);
    if (
      planned &&
      planned.width <= limits.side &&
      planned.height <= limits.side &&
      planned.width * planned.height <= limits.area
    ) {
      return planned;
    }
  }
  return null;
}

function planAt(picture, labels, names, cell, limits) {
  const size = Math.max(7, Math.min(12, cell - 2)); // of labels; where cells are smaller, every few tokens have one
  const space = spaces(picture, labels, size);
  const beside = space.layers + space.maxima;
  const most = Math.floor((limits.side - 2 * MARGIN - beside - (picture.transposed ? 200 : 0)) / cell);
  const bands = bandsOf(picture, most);
  if (bands === null) return null;
  const along = beside + Math.max(0, ...bands.map(({ wide }) => wide)) * cell;
  const across = space.tokens + picture.layers.length * cell;
  const stacked = bands.length * across + (bands.length - 1) * GAP;
  const [wide, high] = picture.transposed ? [stacked, along] : [along, stacked];
  const textRoom = Math.max(LEAST_TEXT_WIDTH, wide);
  const caption = wrapped(picture.caption, 11, textRoom);
  const top = MARGIN + 20 + caption.length * 15 + 8;
  const legend = legendPlan(names, MARGIN, top + high + GAP, textRoom);
  return {
    cell,
    size,
    space,
    labels,
    caption,
    every: Math.ceil((size + 1) / cell),
    width: Math.ceil(textRoom + 2 * MARGIN),
    height: Math.ceil(legend.bottom + MARGIN),
    legend,
    bands: bands.map((band, index) => {
      const shift = index * (across + GAP);
      const [x, y] = picture.transposed ? [MARGIN + shift, top] : [MARGIN, top + shift];
      return { ...band, ...origin(picture, space, x, y) };
    }),
  };
}

/** Bands of at most so many cells, about equally wide: {from, to, wide}; null where a token is wider than that. */
function bandsOf({ tokens, starts = null }, most) {
  const count = tokens.length;
  const total = startAt(starts, count);
  if (most < 1) return null;
  const each = Math.ceil(total / Math.max(1, Math.ceil(total / most)));
  const bands = [];
  for (let from = 0, to = 0; from < count || bands.length === 0; from = to) {
    while (to < count && startAt(starts, to + 1) - startAt(starts, from) <= each) to++;
    if (to === from && to < count) return null;
    bands.push({ from, to, wide: startAt(starts, to) - startAt(starts, from) });
  }
  return bands;
}

/** Room beside the cells: for the tokens' texts, the layers' numbers and their maxima. */
function spaces(picture, labels, size) {
  const widest = (texts) => texts.reduce((most, text) => Math.max(most, textWidth(text, size)), 0);
  return {
    tokens: widest(labels) + 8,
    layers:
      Math.max(widest(picture.layers.map(String)), picture.transposed ? 0 : textWidth(picture.row ?? "layer", size)) +
      8,
    maxima: Math.max(widest(picture.maxima), picture.transposed ? 0 : textWidth("largest", size)) + 8,
  };
}

/** Where a band's first cell stands. */
function origin({ transposed }, space, x, y) {
  return transposed ? { x: x + space.tokens, y: y + space.layers } : { x: x + space.layers, y: y + space.tokens };
}

/** The bar with its ends, and a sample of each shade that is not a colour; samples go on to further lines. */
function legendPlan(names, left, top, width) {
  const samples = [];
  let x = left;
  let y = top + BAR.height + 26;
  for (const name of names) {
    const wide = 22 + textWidth(SHADES[name], 11) + 16;
    if (x > left && x + wide > left + width) [x, y] = [left, y + 18];
    samples.push({ name, x, y });
    x += wide;
  }
  return { x: left, y: top, ...BAR, samples, bottom: samples.length ? y + 14 : top + BAR.height + 18 };
}

/** Which of the shades occur that are not colours; the floor's also where all is above it. */
function used({ layers, tokens, shade, floored }) {
  const found = new Set(floored ? ["flat"] : []);
  for (let layer = 0; layer < layers.length; layer++) {
    for (let token = 0; token < tokens.length; token++) {
      const drawn = shade(layer, token);
      if (typeof drawn === "string") found.add(drawn);
    }
  }
  return Object.keys(SHADES).filter((name) => found.has(name));
}

/**
 * Draw by a pen with `rect(x, y, width, height, fill)`, `text(x, y, text, {size, anchor, turned, weight, title, struck})`,
 * `cells(band, plan)` and `bar(x, y, width, height)`.
 */
export function draw(pen, picture, planned) {
  const { cell, caption, legend, bands } = planned;
  pen.text(MARGIN, MARGIN + 14, picture.title, { size: 15, weight: 600 });
  caption.forEach((line, index) => pen.text(MARGIN, MARGIN + 34 + index * 15, line, { size: 11 }));
  for (const band of bands) {
    pen.cells(band, cell);
    tokenLabels(pen, picture, planned, band);
    layerLabels(pen, picture, planned, band);
  }
  pen.bar(legend.x, legend.y, legend.width, legend.height);
  const below = legend.y + legend.height + 13;
  pen.text(legend.x, below, picture.legend.low, { size: 11 });
  if (picture.legend.middle)
    pen.text(legend.x + legend.width / 2, below, picture.legend.middle, { size: 11, anchor: "middle" });
  pen.text(legend.x + legend.width, below, picture.legend.high, { size: 11, anchor: "end" });
  pen.text(legend.x + legend.width + 12, legend.y + 11, picture.legend.name, { size: 11, weight: 600 });
  for (const { name, x, y } of legend.samples) {
    pen.shade(x, y, 14, 14, name);
    pen.text(x + 20, y + 11, SHADES[name], { size: 11 });
  }
}

function tokenLabels(pen, { tokens, starts = null, transposed, struck }, { cell, size, every, labels }, band) {
  for (let token = band.from; token < band.to; token += every) {
    const middle = (middleAt(starts, token) - startAt(starts, band.from)) * cell + size * 0.35;
    const about = { size, title: positionWords(tokens[token]), struck: struck(token) };
    if (transposed) pen.text(band.x - 4, band.y + middle, labels[token], { ...about, anchor: "end" });
    else pen.text(band.x + middle, band.y - 4, labels[token], { ...about, turned: true });
  }
}

function layerLabels(pen, { layers, maxima, transposed, row = "layer" }, { cell, size, every }, band) {
  const far = band.wide * cell + 4;
  if (!transposed) {
    pen.text(band.x - 4, band.y - 4, row, { size, anchor: "end" });
    pen.text(band.x + far, band.y - 4, "largest", { size });
  }
  for (let layer = 0; layer < layers.length; layer += every) {
    const middle = (layer + 0.5) * cell + size * 0.35;
    if (transposed) {
      pen.text(band.x + middle, band.y - 4, String(layers[layer]), { size, turned: true });
      pen.text(band.x + middle, band.y + far, maxima[layer], { size, turned: true, anchor: "end" });
    } else {
      pen.text(band.x - 4, band.y + middle, String(layers[layer]), { size, anchor: "end" });
      pen.text(band.x + far, band.y + middle, maxima[layer], { size });
    }
  }
}
