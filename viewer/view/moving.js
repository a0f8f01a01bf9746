/** Scrolling and zooming a heatmap. */
import { nextCell } from "./pixels.js";

/** Scroll until a cell is in view. */
export function bringIntoView(map, { layer, token }) {
  const { layout, scroller } = map;
  if (!layout) return;
  const [row, col] = layout.transposed ? [token, layer] : [layer, token];
  const moved = [inside(scroller, "scrollLeft", col, layout.cell, layout.width), inside(scroller, "scrollTop", row, layout.cell, layout.height)];
  if (moved.some(Boolean)) map.redraw();
}

function inside(scroller, side, index, cell, size) {
  if (index === null || index === undefined) return false;
  const [from, to] = [index * cell, (index + 1) * cell];
  const at = scroller[side];
  if (from >= at && to <= at + size) return false;
  scroller[side] = Math.max(0, from - (size - cell) / 2);
  return true;
}

/** Larger (1), smaller (-1), as fits (0), or all of it in view ("whole"). */
export function zoom(map, way, anchor = null) {
  const { layout, store } = map;
  if (!layout) return;
  map.anchor = anchor;
  const cell = way === 0 ? null : way === "whole" ? layout.whole : nextCell(layout.cell, way);
  store.set({ cell });
}

/** Tokens that a search found stand out among the labels. */
export function showMatches(map, matches) {
  map.matches = new Set(matches);
  if (map.view) map.redraw();
}
