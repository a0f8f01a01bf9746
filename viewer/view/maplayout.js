/** How large a heatmap's parts are. Pure. */
import { labelSize, textWidth } from "./axes.js";
import { placed, startAt, startsOf } from "./columns.js";
import { brief } from "./numbers.js";
import { fittingCell, wholeCell } from "./pixels.js";

export const MOST_CHARACTERS = 18; // of a token's label
export const MOST_PLACE = 11; // and of its positions
const CORNER = { width: 66, height: 22 }; // the least room in which "position" stands whole

/**
 * Sizes in CSS pixels: of a cell, of the labels around, of the window that scrolls; `down` and `across`, the whole in cells.
 * @param {{view: object, state: object, room: {width: number, height: number, bar: number}}} map   `bar`: of a scroll bar
 */
export function layoutOf({ view, state, room }) {
  const { transposed } = state;
  const [rows, cols] = transposed ? [view.cols, view.rows] : [view.rows, view.cols];
  const starts = startsOf(view.tokens);
  const [rowStarts, colStarts] = transposed ? [starts, null] : [null, starts];
  const [down, across] = [startAt(rowStarts, rows), startAt(colStarts, cols)];
  const labels = labelLengths(view);
  const fits = edgesOf(labels, 12, transposed, false);
  const [wide, high] = [room.width - fits.left - fits.right, room.height - fits.top - fits.bottom];
  const cell = state.cell ?? fittingCell(down, across, wide, high);
  const size = labelSize(cell);
  const turned = !transposed || textWidth(labels.layers, size) > cell;
  const edges = edgesOf(labels, size, transposed, turned);
  const height = Math.max(cell, Math.min(down * cell, room.height - edges.top - edges.bottom));
  const bar = down * cell > height ? room.bar : 0;
  const width = Math.max(60, Math.min(across * cell, room.width - edges.left - edges.right - bar));
  const whole = wholeCell(down, across, wide, high);
  return {
    transposed,
    rows,
    cols,
    down,
    across,
    rowStarts,
    colStarts,
    cell,
    size,
    turned,
    edges,
    width,
    height,
    whole,
    place: labels.positions,
  };
}

function edgesOf({ tokens, layers, maxima, positions }, size, transposed, turned) {
  const [token, layer, most, position] = [tokens, layers, maxima, positions].map(
    (length) => textWidth(length, size) + 10,
  );
  const line = Math.max(size + 8, CORNER.height);
  const beside = (length) => Math.max(length, CORNER.width);
  if (!transposed) return { top: Math.max(token, 44), bottom: line, left: beside(layer), right: beside(most) };
  return { left: beside(token), right: beside(position), top: turned ? Math.max(layer, line) : line, bottom: most };
}

/** The longest labels, in characters. */
function labelLengths({ tokens, layers, scale }) {
  const longest = tokens.reduce((most, { text }) => Math.max(most, wide(text)), 1);
  return {
    tokens: Math.min(MOST_CHARACTERS, longest),
    layers: String(layers.at(-1) ?? 0).length,
    maxima: Math.max(...[0, ...scale.rowMax].map((value) => largestText(value).length)),
    positions: tokens.some(({ where }) => where)
      ? Math.min(MOST_PLACE, Math.max(...tokens.map((token) => placed(token).length)))
      : String(tokens.at(-1)?.position ?? 0).length,
  };
}

/** A guess at a text's width in characters that does not take it apart: letters of the East are as wide as two. */
function wide(text) {
  if (text.length >= MOST_CHARACTERS || /^[ -~]*$/.test(text)) return Math.min(MOST_CHARACTERS, text.length);
  const eastern = text.match(/[\u1100-\uffff]/g)?.length ?? 0;
  const hidden = text.match(/[\p{Cc}\p{Cf}]/gu)?.length ?? 0; // shown as U+XXXX
  return Math.min(MOST_CHARACTERS, text.length + eastern + 5 * hidden);
}

export function largestText(value) {
  return Number.isNaN(value) ? "–" : brief(value);
}
