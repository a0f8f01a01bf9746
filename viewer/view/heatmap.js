/**
 * The heatmap: one canvas that covers what is in view of it, labels along its four edges, and marks laid over it.
 *
 * Rows are layers and columns tokens, or the reverse. "Row" and "column" mean what is on the screen; layer and token
 * what it stands for. Pointing at a cell moves marks and never redraws the picture.
 */
import { createAxis, labelEvery, textWidth } from "./axes.js";
import { paletteOf, pixel } from "./colours.js";
import { middleAt, placed, positionWords, startAt } from "./columns.js";
import { element } from "./element.js";
import { inkOn } from "./ink.js";
import { MOST_CHARACTERS, MOST_PLACE, largestText, layoutOf } from "./maplayout.js";
import { createMarks } from "./marks.js";
import { brief } from "./numbers.js";
import { paintCells, visibleCells } from "./pixels.js";
import { FLAT } from "./scale.js";
import { listenTo } from "./pointing.js";
import { header, rowName } from "./words.js";

const NUMBERS_FROM = 40; // CSS pixels of a cell, from which its value stands in it
const GAP_FROM = 8; // and from which cells stand apart
const NOTHING = new Set();
const PAINTED_BY = [
  "result",
  "step",
  "variant",
  "metric",
  "normalise",
  "curve",
  "palette",
  "dark",
  "excluded",
  "at",
  "compare",
  "otherResult",
  "reads",
  "transposed",
  "cell",
];

/**
 * @param {HTMLElement} root
 * @param {object} store
 * @param {{viewOf: (state: object) => object|null, name: string, cells: string, linked?: boolean}} options
 *   `viewOf`: the view it draws; `cells`: the canvas' data-testid; `linked`: it is the second picture, whose tokens and
 *   layers are told to the others by the first one's indices
 */
export function createHeatmap(root, store, options) {
  const map = { root, store, ...options, ...built(root, options), view: null, draws: 0, scroll: { x: 0, y: 0 } };
  map.marks = createMarks(map);
  map.redraw = () => draw(map);
  map.scrollTo = (x, y) => scrollTo(map, x, y);
  map.tokenAxis = () => (map.transposed ? map.axes.left : map.axes.top);
  map.layerAxis = () => (map.transposed ? map.axes.top : map.axes.left);
  listenTo(map);
  const update = (state, changed = null) => updated(map, state, changed);
  store.subscribe(update);
  watchSize(map);
  update(store.get());
  return map;
}

function built(root, { name, cells }) {
  const canvas = element("canvas", {
    "data-testid": cells,
    tabindex: 0,
    role: "application",
    "aria-label": name,
    "aria-roledescription": "heatmap",
    "aria-describedby": "heatmap-keys",
  });
  const over = element("div", { class: "over" });
  const space = element("div", { class: "space" }, canvas, over);
  const scroller = element("div", { class: "scroller", tabindex: -1 }, space);
  const axes = Object.fromEntries(["top", "bottom", "left", "right"].map((edge) => [edge, createAxis(edge)]));
  const corners = Object.fromEntries(
    ["nw", "ne", "sw", "se"].map((place) => [place, element("div", { class: `corner corner-${place}` })]),
  );
  const grid = element(
    "div",
    { class: "heatmap-grid" },
    corners.nw,
    axes.top.root,
    corners.ne,
    axes.left.root,
    scroller,
    axes.right.root,
    corners.sw,
    axes.bottom.root,
    corners.se,
  );
  root.classList.add("heatmap");
  root.append(grid);
  const pen = canvas.getContext("2d", { willReadFrequently: true }); // in memory: whole pixels are put there, nothing else
  return { canvas, pen, over, space, scroller, axes, corners, grid };
}

/** Room for it: as wide as its place, and as high as leaves something of the page. */
function watchSize(map) {
  map.measure = () => {
    const width = map.root.clientWidth;
    const height = Math.max(220, Math.round(globalThis.innerHeight * 0.62));
    const ratio = globalThis.devicePixelRatio || 1;
    if (map.room?.width === width && map.room.height === height && map.room.ratio === ratio) return;
    map.room = { width, height, ratio, bar: barSize() };
    if (map.view) draw(map);
  };
  map.measure();
  new ResizeObserver(() => requestAnimationFrame(map.measure)).observe(map.root); // what it sees may not change within it
  globalThis.addEventListener("resize", map.measure);
}

function updated(map, state, changed) {
  if (changed === null || PAINTED_BY.some((key) => changed.has(key))) {
    const old = map.view;
    map.view = map.viewOf(state);
    map.state = state;
    if (!map.view) return waiting(map, state);
    keepAnchor(map, old, () => draw(map));
  }
  map.state = state;
  if (map.layout) map.marks.update(state, changed);
}

function waiting(map, state) {
  map.root.dataset.state = state.result ? "loading" : "empty";
  map.grid.hidden = !state.result && map.draws === 0;
  map.marks.hide();
}

/** When cells change their size, the place that was pointed at stays where it is. */
function keepAnchor(map, old, change) {
  const { layout: before, anchor, scrolled } = map;
  change();
  const { layout } = map;
  if (!before || !old || before.cell === layout.cell || before.transposed !== layout.transposed) return;
  const ratio = layout.cell / before.cell;
  const [x, y] = anchor ?? [0, 0];
  map.anchor = null;
  scrollTo(map, (scrolled.x + x) * ratio - x, (scrolled.y + y) * ratio - y);
}

/** Scrolls and draws. The place is kept here too: asking the page for it would make it lay itself out. */
function scrollTo(map, x, y) {
  const { scroller } = map;
  scroller.scrollLeft = x;
  scroller.scrollTop = y;
  map.scroll = { x: scroller.scrollLeft, y: scroller.scrollTop };
  draw(map);
}

// Drawing

function draw(map) {
  const { view, root, room } = map;
  if (!view || !room.width) return;
  const layout = layoutOf(map);
  map.transposed = layout.transposed;
  const moved = !sameLayout(map.layout, layout);
  if (moved) place(map, layout);
  if (moved) map.layout = layout;
  const { x, y } = map.scroll;
  map.scrolled = {
    x: clamp(x, layout.across * layout.cell - layout.width),
    y: clamp(y, layout.down * layout.cell - layout.height),
  };
  paint(map);
  label(map);
  map.draws += 1;
  Object.assign(root.dataset, {
    state: "drawn",
    draws: map.draws,
    rows: layout.rows,
    cols: layout.cols,
    cell: layout.cell,
    firstRow: map.seen.firstRow,
    firstCol: map.seen.firstCol,
    offsetX: startAt(layout.colStarts, map.seen.firstCol) * layout.cell - map.scrolled.x,
    offsetY: startAt(layout.rowStarts, map.seen.firstRow) * layout.cell - map.scrolled.y,
  });
  map.grid.hidden = false;
  map.marks.update(map.state, NOTHING);
}

function clamp(value, most) {
  return Math.max(0, Math.min(value, most));
}

function sameLayout(one, other) {
  const sizes = ({ rowStarts, colStarts, ...rest }) => JSON.stringify(rest);
  const alike = one?.rowStarts === other.rowStarts && one?.colStarts === other.colStarts;
  return one !== undefined && alike && sizes(one) === sizes(other);
}

function place({ space, scroller, grid, corners }, { down, across, cell, edges, width, height, transposed, size }) {
  const [over, under] = [across * cell > width, down * cell > height].map((more) => (more ? barSize() : 0));
  grid.style.gridTemplateRows = `${edges.top}px ${height + over}px ${edges.bottom}px`;
  grid.style.gridTemplateColumns = `${edges.left}px ${width + under}px ${edges.right}px`;
  grid.style.setProperty("--size", `${size}px`);
  scroller.style.overflowX = across * cell > width ? "scroll" : "hidden";
  scroller.style.overflowY = down * cell > height ? "scroll" : "hidden";
  space.style.width = `${across * cell}px`;
  space.style.height = `${down * cell}px`;
  corners.ne.textContent = transposed ? "position" : "largest";
  corners.sw.textContent = transposed ? "largest" : "position";
}

let bar = null;

/** How thick a scroll bar is here; 0 where it lies over what it scrolls. */
function barSize() {
  if (bar === null) {
    const probe = document.body.appendChild(element("div", { class: "scroller probe" }));
    bar = probe.offsetHeight - probe.clientHeight;
    probe.remove();
  }
  return bar;
}

/** The cells in view, by device pixel. */
function paint(map) {
  const { view, state, layout, room, canvas, pen, scrolled } = map;
  const { ratio } = room;
  const [width, height] = [Math.ceil(layout.width * ratio), Math.ceil(layout.height * ratio)];
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    canvas.style.width = `${width / ratio}px`;
    canvas.style.height = `${height / ratio}px`;
    map.image = pen.createImageData(width, height);
    map.pixels = new Uint32Array(map.image.data.buffer);
  }
  const window = {
    width,
    height,
    rows: layout.rows,
    cols: layout.cols,
    rowStarts: layout.rowStarts,
    colStarts: layout.colStarts,
    cell: layout.cell * ratio,
    left: Math.round(scrolled.x * ratio),
    top: Math.round(scrolled.y * ratio),
    gap: layout.cell >= GAP_FROM ? Math.max(1, Math.floor(ratio)) : 0,
    period: Math.round(6 * ratio),
  };
  const palette = paletteOf(view.scale.signed ? "difference" : state.palette, state.dark);
  const { code } = view.scale;
  const codeAt = layout.transposed ? (row, col) => code(col, row) : code;
  paintCells(map.pixels, window, codeAt, palette.packed, pixel(palette.grounds.ink));
  pen.putImageData(map.image, 0, 0);
  map.seen = visibleCells(window);
  if (layout.cell >= NUMBERS_FROM) writeNumbers(map, window, palette, codeAt);
}

function writeNumbers({ pen, view, layout, room, seen }, window, { hex }, codeAt) {
  pen.font = `${Math.round(11 * room.ratio)}px system-ui, sans-serif`;
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  for (let row = seen.firstRow; row <= seen.lastRow; row++) {
    for (let col = seen.firstCol; col <= seen.lastCol; col++) {
      const drawn = codeAt(row, col);
      if (drawn > FLAT) continue;
      const [layer, token] = layout.transposed ? [col, row] : [row, col];
      const [red, green, blue] = [1, 3, 5].map((at) =>
        Number.parseInt(hex[drawn === FLAT ? (view.scale.signed ? 128 : 0) : drawn].slice(at, at + 2), 16),
      );
      pen.fillStyle = inkOn(red, green, blue);
      const text = numberText(view.values[layer * view.cols + token], layout.cell);
      pen.fillText(
        text,
        middleAt(window.colStarts, col) * window.cell - window.left,
        middleAt(window.rowStarts, row) * window.cell - window.top,
        window.cell - 2,
      );
    }
  }
}

function numberText(value, cell) {
  return brief(value, cell >= 56 ? 3 : 2).replace(/^(-?)0\./, "$1.");
}

// Labels

function label(map) {
  const { axes, layout, view, seen, scrolled } = map;
  const { cell, size, transposed, turned } = layout;
  if (map.labelled?.view !== view || map.labelled.matches !== map.matches)
    map.labelled = { view, matches: map.matches };
  const cols = { first: seen.firstCol, last: seen.lastCol, scrolled: scrolled.x };
  const rows = { first: seen.firstRow, last: seen.lastRow, scrolled: scrolled.y };
  const shared = { cell, size, every: labelEvery(cell, size), version: map.labelled };
  const ofTokens = { ...shared, ...(transposed ? rows : cols), starts: layout.rowStarts ?? layout.colStarts };
  const ofLayers = { ...shared, ...(transposed ? cols : rows) };
  const row = rowName(view.place);
  const [tokens, layers] = [map.tokenAxis(), map.layerAxis()];
  map.corners.nw.textContent = row;
  const [positions, maxima] = transposed ? [axes.right, axes.bottom] : [axes.bottom, axes.right];
  tokens.show({
    ...ofTokens,
    turned: !transposed,
    text: (token) => header(view.tokens[token].text, MOST_CHARACTERS),
    title: (token) => headTitle(view, token),
    name: (token) => headNames(map, token),
  });
  layers.show({
    ...ofLayers,
    turned: transposed && turned,
    text: (layer) => String(view.layers[layer]),
    title: (layer) => `Click to colour the text by ${row} ${view.layers[layer]}`,
    name: () => "layer-name",
  });
  maxima.show({
    ...ofLayers,
    turned: transposed,
    text: (layer) => largestText(view.scale.rowMax[layer]),
    title: (layer) => `the largest of ${row} ${view.layers[layer]} in this picture`,
  });
  const wide = textWidth(Math.max(6, layout.place), size) + 6;
  const apart = transposed ? Math.max(shared.every, Math.ceil(28 / cell)) : Math.ceil(wide / cell);
  positions.show({
    ...ofTokens,
    every: apart,
    turned: false,
    text: (token) => header(placed(view.tokens[token]), MOST_PLACE),
    title: (token) => view.tokens[token].where ?? "",
  });
}

function headTitle(view, token) {
  const out = view.excludedMask[token] === 1;
  const act = out ? "take it into the scale again" : "leave it out of the scale";
  return `${header(view.tokens[token].text, 60)}, ${positionWords(view.tokens[token])}. Click to ${act}.`;
}

function headNames({ view, matches }, token) {
  return [
    "token-label",
    view.excludedMask[token] === 1 ? "out" : "",
    matches?.has(token) ? "match" : "",
    view.compared?.differing.includes(token) ? "differs" : "",
  ]
    .filter(Boolean)
    .join(" ");
}
