/** The visible part of a heatmap as pixels: pure, so that it is quick and can be tested without a browser. */
import { indexAt, startAt } from "./columns.js";
import { EXCLUDED, UNDEFINED } from "./scale.js";

const SIGNS_FROM = 4; // device pixels of a cell, from which hatches and dots can be seen
const EMPTY = 0; // transparent

/**
 * @typedef {object} Window   all in device pixels
 * @property {number} width
 * @property {number} height
 * @property {number} cell    side of a cell; need not be whole
 * @property {number} left    where the window lies in the picture
 * @property {number} top
 * @property {number} rows
 * @property {number} cols
 * @property {ArrayLike<number>|null} [rowStarts]   where rows begin, in cells, if they are not of one size
 * @property {ArrayLike<number>|null} [colStarts]
 * @property {number} gap     between cells
 * @property {number} period  of hatches and dots
 */

/** The cells that are at least partly visible: {firstRow, lastRow, firstCol, lastCol}, the last ones included. */
export function visibleCells({ width, height, cell, left, top, rows, cols, rowStarts = null, colStarts = null }) {
  const first = (start, count, starts) => Math.max(0, Math.min(count - 1, indexAt(starts, start / cell)));
  const last = (end, count, starts) => Math.min(count - 1, Math.max(0, indexAt(starts, Math.ceil(end / cell) - 1)));
  return {
    firstRow: first(top, rows, rowStarts),
    lastRow: last(top + height, rows, rowStarts),
    firstCol: first(left, cols, colStarts),
    lastCol: last(left + width, cols, colStarts),
  };
}

/**
 * @param {Uint32Array} pixels    width * height, row-major
 * @param {Window} window
 * @param {(row: number, col: number) => number} code   0..255 or what scale.js names
 * @param {Uint32Array} packed    a pixel for each code
 * @param {number} ink            the pixel of signs
 */
export function paintCells(pixels, window, code, packed, ink) {
  const { width, height, cell, top, gap, rowStarts = null } = window;
  const { firstRow, lastRow, firstCol, lastCol } = visibleCells(window);
  const edges = columnEdges(window, firstCol, lastCol);
  const signed = cell >= SIGNS_FROM;
  pixels.fill(EMPTY);
  for (let row = firstRow; row <= lastRow; row++) {
    const from = Math.max(0, Math.round(startAt(rowStarts, row) * cell - top));
    const to = Math.min(height, Math.round(startAt(rowStarts, row + 1) * cell - top) - gap);
    if (to <= from) continue;
    const line = pixels.subarray(from * width, (from + 1) * width);
    const signs = [];
    for (let col = firstCol, at = 0; col <= lastCol; col++, at += 2) {
      const drawn = code(row, col);
      const [start, end] = [edges[at], edges[at + 1]];
      if (end > start) line.fill(packed[drawn], start, end);
      if (signed && (drawn === EXCLUDED || drawn === UNDEFINED)) signs.push(start, end, drawn);
    }
    for (let y = from + 1; y < to; y++) pixels.copyWithin(y * width, from * width, (from + 1) * width);
    if (signs.length) paintSigns(pixels, window, from, to, signs, ink);
  }
}

/** Start and end of each visible column, within the window; a gap is taken from the end. */
function columnEdges({ width, cell, left, gap, colStarts = null }, firstCol, lastCol) {
  const edges = new Int32Array(2 * (lastCol - firstCol + 1));
  for (let col = firstCol, at = 0; col <= lastCol; col++, at += 2) {
    edges[at] = Math.max(0, Math.round(startAt(colStarts, col) * cell - left));
    edges[at + 1] = Math.min(width, Math.round(startAt(colStarts, col + 1) * cell - left) - gap);
  }
  return edges;
}

/** Lines over what is left out, dots over what is undefined; they go on from cell to cell, and move with the picture. */
function paintSigns(pixels, { width, left, top, period }, from, to, signs, ink) {
  const thick = Math.max(1, Math.round(period / 6));
  const dot = Math.max(1, Math.round(period / 4));
  for (let at = 0; at < signs.length; at += 3) {
    const hatched = signs[at + 2] === EXCLUDED;
    for (let y = from; y < to; y++) {
      for (let x = signs[at]; x < signs[at + 1]; x++) {
        const [across, down] = [x + left, y + top];
        const on = hatched ? (across + down) % period < thick : across % period < dot && down % period < dot;
        if (on) pixels[y * width + x] = ink;
      }
    }
  }
}

/** Sizes that a cell can have, in CSS pixels. */
export const CELL_SIZES = [1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64];
const READABLE = 14; // the least size at which every token has its text
const LARGEST_FIT = 32;

/** The largest size at which all fits, but not below what can be read: the rest is scrolled to. */
export function fittingCell(rows, cols, width, height) {
  const most = Math.min(LARGEST_FIT, width / cols, height / rows);
  return Math.max(READABLE, CELL_SIZES.findLast((size) => size <= most) ?? 1);
}

/** The size at which the whole picture is seen. */
export function wholeCell(rows, cols, width, height) {
  const most = Math.min(LARGEST_FIT, width / cols, height / rows);
  return CELL_SIZES.findLast((size) => size <= most) ?? 1;
}

/** The next size up (1) or down (-1). */
export function nextCell(cell, way) {
  const next = way > 0 ? CELL_SIZES.find((size) => size > cell) : CELL_SIZES.findLast((size) => size < cell);
  return next ?? cell;
}
