/** Mouse, wheel and keys on a heatmap. */
import { indexAt, leftOutToggled } from "./columns.js";
import { bringIntoView, zoom } from "./moving.js";
import { pinToggled } from "./pins.js";

export function listenTo(map) {
  const { canvas, scroller, axes, store } = map;
  map.pointer = null;
  map.bring = (cell) => bringIntoView(map, cell);
  canvas.addEventListener("pointermove", (event) => pointed(map, event));
  canvas.addEventListener("pointerleave", () => {
    map.pointer = null;
    store.set({ hover: null });
  });
  canvas.addEventListener("click", (event) => clicked(map, event));
  canvas.addEventListener("keydown", (event) => keyed(map, event));
  scroller.addEventListener("scroll", () => scrolled(map), { passive: true });
  map.grid.addEventListener("wheel", (event) => wheeled(map, event), { passive: false });
  for (const axis of [axes.top, axes.left])
    axis.root.addEventListener("click", (event) => headClicked(map, axis, event));
}

function scrolled(map) {
  const { scrollLeft: x, scrollTop: y } = map.scroller;
  if (x === map.scroll.x && y === map.scroll.y) return; // drawn already
  map.scroll = { x, y };
  if (map.view) map.redraw();
}

/** The cell under the pointer, by this picture's own indices; null beside the cells. */
function cellAt({ layout, scrolled }, { offsetX, offsetY }) {
  const col = indexAt(layout.colStarts, (offsetX + scrolled.x) / layout.cell);
  const row = indexAt(layout.rowStarts, (offsetY + scrolled.y) / layout.cell);
  if (!(row >= 0 && row < layout.rows && col >= 0 && col < layout.cols)) return null;
  return layout.transposed ? { layer: col, token: row } : { layer: row, token: col };
}

/** The same cell as the first picture counts. */
function toFirst({ linked, view }, cell) {
  if (!linked || !cell) return cell;
  const [layer, token] = [view.compared.layerOf[cell.layer], view.compared.tokenOf[cell.token]];
  return token < 0 ? null : { layer: layer < 0 ? null : layer, token };
}

function pointed(map, event) {
  if (!map.view) return;
  map.pointer = { x: event.clientX, y: event.clientY };
  map.store.set({ hover: toFirst(map, cellAt(map, event)) });
}

function clicked(map, event) {
  const cell = map.view && toFirst(map, cellAt(map, event));
  if (!cell) return;
  if (event.shiftKey) toggleExcluded(map.store, cell.token);
  else map.store.set({ pins: pinToggled(map.store.get().pins, cell.token) });
}

/**
 * A click on a token's label leaves its position out of the scale, or takes it in again; on a layer's, colours the text
 * by that layer.
 */
function headClicked(map, axis, event) {
  const label = event.target.closest(".label");
  if (!label || map.linked) return;
  const index = Number(label.dataset.index);
  if (axis === map.tokenAxis()) toggleExcluded(map.store, index);
  else map.store.set({ layerChoice: map.store.get().layerChoice === index ? "max" : index });
}

export function toggleExcluded(store, token) {
  const { result, step, excluded } = store.get();
  const column = result?.tokens(step)[token];
  if (column) store.set({ excluded: leftOutToggled(excluded, column) });
}

function wheeled(map, event) {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  const frame = map.canvas.getBoundingClientRect();
  const now = performance.now();
  if (now - (map.zoomed ?? 0) < 60) return; // a wheel turns faster than one can see
  map.zoomed = now;
  zoom(map, event.deltaY < 0 ? 1 : -1, [event.clientX - frame.left, event.clientY - frame.top]);
}

const MOVES = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

function keyed(map, event) {
  const { layout, store } = map;
  if (!map.view || event.ctrlKey || event.metaKey || event.altKey) return;
  const { hover } = store.get();
  if (moveOf(event.key, layout)) move(map, hover, moveOf(event.key, layout));
  else if ((event.key === "Enter" || event.key === " ") && hover)
    store.set({ pins: pinToggled(store.get().pins, hover.token) });
  else if (event.key === "x" && hover) toggleExcluded(store, hover.token);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function moveOf(key, { rows, cols }) {
  if (key === "Home") return [0, -cols];
  if (key === "End") return [0, cols];
  if (key === "PageUp") return [-rows, 0];
  if (key === "PageDown") return [rows, 0];
  return MOVES[key];
}

function move(map, hover, [down, right]) {
  const { layout, store } = map;
  if (map.linked) return;
  const { layer, token } = hover ?? { layer: null, token: null };
  const [row, col] = layout.transposed ? [token, layer] : [layer, token];
  const next = (at, by, count) => (at === null ? 0 : Math.min(count - 1, Math.max(0, at + by)));
  const [nextRow, nextCol] = [next(row, hover ? down : 0, layout.rows), next(col, hover ? right : 0, layout.cols)];
  const cell = layout.transposed ? { layer: nextCol, token: nextRow } : { layer: nextRow, token: nextCol };
  map.pointer = null;
  bringIntoView(map, cell);
  store.set({ hover: cell });
}
