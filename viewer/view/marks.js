/** What is laid over the heatmap: the cell pointed at, the pinned tokens, and the tooltip. */
import { cellFacts, placeText, spoken } from "./cell.js";
import { startAt } from "./columns.js";
import { element } from "./element.js";
import { pinStyle } from "./pins.js";
import { header, rowName } from "./words.js";

const DWELL = 200; // ms that another panel points at a cell before the heatmap scrolls to it
const CALM = 350; // ms between announcements

export function createMarks(map) {
  const box = element("div", { class: "hover-box", hidden: true });
  map.over.append(box);
  const marks = {
    map,
    box,
    frames: [],
    lit: [],
    tooltip: map.linked ? null : tooltipOf(),
    announce: document.getElementById("announce"),
  };
  return { update: (state, changed) => update(marks, state, changed), hide: () => hide(marks) };
}

function tooltipOf() {
  const parts = Object.fromEntries(
    ["token", "place", "measure", "relation", "others"].map((name) => [
      name,
      element(name === "token" ? "bdi" : "span", { class: `tip-${name}` }),
    ]),
  );
  const root = element(
    "div",
    { class: "tooltip", role: "tooltip", "data-testid": "tooltip", hidden: true },
    element("div", {}, parts.token, " ", parts.place),
    parts.measure,
    parts.relation,
    parts.others,
  );
  document.body.append(root);
  return { root, ...parts };
}

function update(marks, state, changed) {
  if (!marks.map.view) return hide(marks); // still being read: pointed at meanwhile
  const drawnAnew = changed === null || marks.view !== marks.map.view || marks.layout !== marks.map.layout;
  marks.view = marks.map.view;
  marks.layout = marks.map.layout;
  if (drawnAnew || changed.has("pins")) framePins(marks, state);
  if (drawnAnew || changed.has("hover")) pointAt(marks, state);
}

/** Nothing is pointed at: nothing is announced either, 350 ms later, of a picture that may be gone. */
function hide(marks) {
  clearTimeout(marks.said);
  marks.box.hidden = true;
  if (marks.tooltip) marks.tooltip.root.hidden = true;
}

/** The layer and token of this picture that a hover means; null where it has none such. */
function cellHere({ map }, hover) {
  const { view } = map;
  if (!hover || !view) return null;
  const [layer, token] = map.linked ? linkedCell(view, hover) : [hover.layer, hover.token];
  if (!(token >= 0 && token < view.cols) || (layer !== null && !(layer >= 0 && layer < view.rows))) return null;
  return { layer, token };
}

/** The second picture's cell for one of the first: by its alignment, read the other way round. */
function linkedCell({ compared }, { layer, token }) {
  return [layer === null ? null : compared.layerOf.indexOf(layer), compared.tokenOf.indexOf(token)];
}

function pointAt(marks, state) {
  const { map, box } = marks;
  const cell = cellHere(marks, state.hover);
  light(marks, cell);
  if (!cell || !map.layout) return hide(marks);
  place(box, map.layout, cell);
  if (marks.tooltip && cell.layer !== null) tell(marks, state, cell);
  else if (marks.tooltip) marks.tooltip.root.hidden = true;
  if (!map.linked && map.pointer === null && !inView(map, cell)) later(marks, "scroll", DWELL, () => map.bring?.(cell));
}

function place(box, layout, { layer, token }) {
  const { cell, transposed, rows, cols, rowStarts, colStarts } = layout;
  const [row, col] = transposed ? [token, layer] : [layer, token];
  const [left, wide] = extent(colStarts, col, cols, cell);
  const [top, high] = extent(rowStarts, row, rows, cell);
  box.hidden = false;
  box.style.transform = `translate(${left}px, ${top}px)`;
  box.style.width = `${wide}px`;
  box.style.height = `${high}px`;
}

/** Where a cell begins and how long it is, in CSS pixels; of null all of them. */
function extent(starts, index, count, cell) {
  const [from, to] = index === null ? [0, count] : [index, index + 1];
  return [startAt(starts, from) * cell, (startAt(starts, to) - startAt(starts, from)) * cell];
}

function inView({ seen }, { layer, token }) {
  return inside(seen, token, layer) || inside(seen, layer, token);

  function inside({ firstRow, lastRow, firstCol, lastCol }, col, row) {
    return col >= firstCol && col <= lastCol && (row === null || (row >= firstRow && row <= lastRow));
  }
}

/** The labels of the cell pointed at; those lit before are put out where they were, whichever way the picture lies now. */
function light(marks, cell) {
  const { map } = marks;
  for (const [axis, index] of marks.lit) axis.mark(index, "lit", false);
  marks.lit = cell
    ? [
        [map.tokenAxis(), cell.token],
        [map.layerAxis(), cell.layer],
      ].filter(([, index]) => index !== null)
    : [];
  for (const [axis, index] of marks.lit) axis.mark(index, "lit", true);
}

// Pins

function framePins({ map, frames }, { pins }) {
  const { layout, view, over } = map;
  const tokens = map.linked ? pins.map((pin) => view.compared.tokenOf.indexOf(pin)) : pins;
  tokens.forEach((token, index) => {
    frames[index] ??= over.appendChild(element("div", { class: "pin-frame" }));
    const frame = frames[index];
    frame.hidden = token < 0 || token >= view.cols;
    frame.style.setProperty("--pin", pinStyle(index).colour);
    if (!frame.hidden) place(frame, layout, { layer: null, token });
  });
  for (const frame of frames.slice(tokens.length)) frame.hidden = true;
}

// What is told

function tell(marks, state, { layer, token }) {
  const { tooltip, map } = marks;
  const { view } = map;
  const facts = cellFacts(state, view, layer, token);
  const of = view.tokens[token];
  tooltip.token.textContent = header(of.text, 60);
  tooltip.place.textContent = `${placeText(of)}, ${rowName(view.place)} ${view.layers[layer]}`;
  for (const name of ["measure", "relation", "others"]) tooltip[name].textContent = facts[name];
  Object.assign(tooltip.root.dataset, { layer: view.layers[layer], position: of.position, value: facts.value });
  const at = map.pointer ?? onScreen(map, layer, token);
  tooltip.root.hidden = at === null;
  if (at) besidePointer(tooltip.root, at);
  later(marks, "said", CALM, () => (marks.announce.textContent = spoken(map.state, map.view, layer, token)));
}

/** Where a cell is in the window, or null if it is scrolled away. */
function onScreen({ canvas, layout, scrolled, seen }, layer, token) {
  if (!inView({ seen }, layout.transposed ? { layer: token, token: layer } : { layer, token })) return null;
  const frame = canvas.getBoundingClientRect();
  const [row, col] = layout.transposed ? [token, layer] : [layer, token];
  return {
    x: frame.left + startAt(layout.colStarts, col + 1) * layout.cell - scrolled.x,
    y: frame.top + startAt(layout.rowStarts, row + 1) * layout.cell - scrolled.y,
  };
}

/** Beside and below, or on the other side where the window ends; without measuring it. */
function besidePointer({ style }, { x, y }) {
  const { clientWidth, clientHeight } = document.documentElement;
  const [right, below] = [x < clientWidth - 340, y < clientHeight - 150];
  style.left = right ? `${x + 14}px` : "auto";
  style.right = right ? "auto" : `${clientWidth - x + 14}px`;
  style.top = below ? `${y + 16}px` : "auto";
  style.bottom = below ? "auto" : `${clientHeight - y + 16}px`;
}

/** Once things are calm: the last one asked for. */
function later(marks, name, wait, act) {
  clearTimeout(marks[name]);
  marks[name] = setTimeout(act, wait);
}
