/** Scrolling and zooming a heatmap. */
import { startAt } from "./columns.js";
import { nextCell } from "./pixels.js";

/** Scroll until a cell is in view. */
export function bringIntoView(map, { layer, token }) {
  const { layout, scrolled } = map;
  if (!layout) return;
  const [row, col] = layout.transposed ? [token, layer] : [layer, token];
  const [x, y] = [
    toSee(layout.colStarts, col, layout.cell, scrolled.x, layout.width),
    toSee(layout.rowStarts, row, layout.cell, scrolled.y, layout.height),
  ];
  if (x !== scrolled.x || y !== scrolled.y) map.scrollTo(x, y);
}

/** Where to scroll to, to see a cell: nowhere else if it is in view, else so that it is in the middle. */
function toSee(starts, index, cell, at, size) {
  if (index === null || index === undefined) return at;
  const [from, to] = [startAt(starts, index) * cell, startAt(starts, index + 1) * cell];
  return from >= at && to <= at + size ? at : Math.max(0, from - (size - (to - from)) / 2);
}

/** Larger (1), smaller (-1), as fits (0), or all of it in view ("whole"). */
export function zoom(map, way, anchor = null) {
  const { layout, store } = map;
  if (!layout) return;
  map.anchor = anchor;
  const cell = way === 0 ? null : way === "whole" ? layout.whole : nextCell(layout.cell, way);
  store.set({ cell, hover: null }); // another cell is under the pointer now
}

/** Tokens that a search found stand out among the labels. */
export function showMatches(map, matches) {
  map.matches = new Set(matches);
  if (map.view) map.redraw();
}
