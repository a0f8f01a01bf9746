/** Images of a run: each picture with its patches over it, coloured for the chosen layer and variant. */
import { element, labelled } from "./element.js";
import { pinToggled } from "./pins.js";
import { overLayers } from "./prose.js";
import { ABSENT, FLAT, UNDEFINED, createScale } from "./scale.js";
import { COLOURED_BY, cellText, chosenLayer, hoverToken, inksOf, tokenColours, tokenName } from "./shown.js";
import { currentView } from "./state.js";
import { measuredApart, measuredWords, otherPlace } from "./view.js";
import { header } from "./words.js";

const CELL = 16; // pixels of a patch's side, two of them its frame
const PICTURE = /^data:image\/(png|jpeg|webp);base64,/;

const PATCH = /^img(\d+)\[(\d+),(\d+)\]$/;

/**
 * Where an image's tokens stand among all. Only the run's texts know which patches a unit of several has.
 * @param {string[]} [texts]   of all positions
 * @returns {{rows: number, cols: number, tokens: Int32Array}} `tokens`: (row, col), row-major, -1 where a patch has none
 */
export function patchGrid(tokens, index, grid, texts = []) {
  const own = tokens.flatMap((token, at) =>
    patchesOf(token, texts).flatMap(([image, row, col]) => (image === index ? [{ row, col, at }] : [])),
  );
  const extent = (name) => own.reduce((most, patch) => Math.max(most, patch[name] + 1), 0);
  const [rows, cols] = grid ?? [extent("row"), extent("col")];
  const placed = new Int32Array(rows * cols).fill(-1);
  for (const { row, col, at } of own) if (row < rows && col < cols) placed[row * cols + col] = at;
  return { rows, cols, tokens: placed };
}

/** [image, row, column] of each of its patches. */
function patchesOf({ type, image, row, col, ranges, count }, texts) {
  if (count > 1) return patchesAt(ranges, texts);
  return type === "vision" && row !== null ? [[image, row, col]] : [];
}

function patchesAt(ranges, texts) {
  return ranges.flatMap(([first, last]) =>
    texts.slice(first, last + 1).flatMap((text) => {
      const found = PATCH.exec(text);
      return found ? [found.slice(1).map(Number)] : [];
    }),
  );
}

/**
 * The patches of an image that any of these units has, by their places in the grid.
 * @param {{ranges: number[][]}[]} units
 * @returns {Set<number>}
 */
export function regionOf(units, texts, index, { rows, cols }) {
  const patches = units.flatMap(({ ranges }) => patchesAt(ranges, texts));
  const own = patches.filter(([image, row, col]) => image === index && row < rows && col < cols);
  return new Set(own.map(([, row, col]) => row * cols + col));
}

export function createImages(root, store) {
  const opacity = element("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.05,
    value: 0.2,
    input: () => images.view && recolour(images, store.get()),
  });
  const list = element("div", { class: "images" });
  const note = element("p", { class: "muted small" });
  const sign = element("span", { class: "sign" }, element("span", { class: "swatch rests-on" }), " rests on");
  const value = element("p", { class: "value muted" });
  const section = element(
    "div",
    { "data-testid": "images" },
    element("div", { class: "panel-head" }, element("h2", {}, "Images"), labelled("Opacity", opacity), sign),
    list,
    note,
    value,
  );
  root.append(section);
  const images = { root, list, note, sign, value, opacity, store, shown: [], tokens: null, result: null, view: null };
  const update = (state, changed = null) => updated(images, state, changed);
  store.subscribe(update);
  update(store.get());
}

function updated(images, state, changed) {
  const { result } = state;
  images.root.hidden = !result?.images.length;
  if (images.root.hidden) return;
  const view = currentView(state);
  const has = (...keys) => changed === null || keys.some((key) => changed.has(key));
  if (images.result !== result || images.tokens !== result.tokens(state.step)) rebuild(images, state);
  if (view && (view !== images.view || has(...COLOURED_BY))) {
    images.view = view;
    recolour(images, state);
  }
  if (has("hover", "pins", "reads", ...COLOURED_BY)) mark(images, state);
}

function rebuild(images, state) {
  const { result, step } = state;
  const same = images.result === result;
  images.result = result;
  images.tokens = result.tokens(step);
  images.view = null;
  const grids = result.images.map((image, index) => patchGrid(images.tokens, index, image.grid, result.seen(step)));
  if (same) images.shown.forEach((image, index) => (image.grid = grids[index]));
  else {
    images.shown = result.images.map((image, index) => figure(images, image, index, grids[index]));
    images.list.replaceChildren(...images.shown.map(({ root }) => root));
  }
  for (const image of images.shown)
    image.outline = outlined(image.grid, regionOf(result.knockout.restsOn, result.seen(step), image.index, image.grid));
  images.sign.hidden = images.shown.every(({ outline }) => !outline.length);
}

/** What a picture is called: its index, as its tokens have it, and its file without folders. */
export function imageName({ run }, index) {
  const path = run?.images?.[index]?.path;
  return `Image ${index}${typeof path === "string" ? `: ${header(path.split(/[\\/]/).at(-1), 60)}` : ""}`;
}

function figure(images, { width, height, resized, uri }, index, grid) {
  const [wide, high] = [width ?? resized?.[1] ?? grid.cols, height ?? resized?.[0] ?? grid.rows];
  const name = `${imageName(images.result, index)}, ${grid.rows} x ${grid.cols} patches`;
  const canvas = element("canvas", {
    "data-testid": "image",
    "data-image": index,
    tabindex: 0,
    role: "img",
    "aria-label": `${name}. Arrow keys move, Enter ${images.result.each ? "measures there" : "pins"}.`,
  });
  const lines = element("div", { class: "patch-lines" });
  const marks = element("div", { class: "patch-marks" });
  const picture = PICTURE.test(uri ?? "")
    ? element("img", { src: uri, alt: "" })
    : element("div", { class: "no-picture" });
  const stack = element("div", { class: "stack" }, picture, canvas, lines, marks);
  stack.style.aspectRatio = `${wide} / ${high}`;
  stack.style.maxWidth = `min(${Math.max(240, Math.min(wide, 560))}px, ${Math.round((60 * wide) / high)}vh)`; // not higher than 60vh
  lines.style.backgroundSize = `calc(100% / ${grid.cols}) calc(100% / ${grid.rows})`;
  const image = {
    root: element(
      "figure",
      {},
      stack,
      element(
        "figcaption",
        { class: "muted" },
        picture.localName === "img" ? name : `${name}; the run file has no picture of it`,
      ),
    ),
    canvas,
    marks,
    grid,
    index,
  };
  listen(images, image);
  return image;
}

function listen({ store }, image) {
  const { canvas } = image;
  const tokenAt = ({ clientX, clientY }) => {
    const box = canvas.getBoundingClientRect();
    const { rows, cols, tokens } = image.grid;
    const [row, col] = [
      Math.floor(((clientY - box.top) / box.height) * rows),
      Math.floor(((clientX - box.left) / box.width) * cols),
    ];
    return row >= 0 && col >= 0 && row < rows && col < cols ? tokens[row * cols + col] : -1;
  };
  const point = (token) =>
    token >= 0 && token !== hoverToken(store.get()) && store.set({ hover: hoverOf(store.get(), token) });
  canvas.addEventListener("pointermove", (event) => point(tokenAt(event)));
  canvas.addEventListener("pointerleave", () => store.set({ hover: null }));
  canvas.addEventListener("click", (event) => {
    const token = tokenAt(event);
    if (token >= 0) store.set(cellChosen(store.get(), token));
  });
  canvas.addEventListener("keydown", (event) => keyed(store, image, event, point));
}

/** Pins a patch, or, where an encoder's run kept every measured cell, asks for it; once more for the mean again. What a comparison shows has no single cell. */
export function cellChosen(state, token) {
  const { result, pins, compare } = state;
  if (!result.each) return { pins: pinToggled(pins, token) };
  if (compare) return {};
  return currentView(state)?.place.at === token
    ? { at: null }
    : { at: token, metric: "l2", variant: result.variants.indexOf("Full") };
}

function hoverOf(state, token) {
  const view = currentView(state);
  return { layer: view ? tokenColours(state, view)(token).layer : null, token };
}

function keyed(store, { grid }, event, point) {
  const { tokens, cols } = grid;
  const place = tokens.indexOf(hoverToken(store.get()) ?? -2);
  const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: cols, ArrowUp: -cols }[event.key];
  if (move !== undefined) point(tokens[place < 0 ? 0 : Math.min(tokens.length - 1, Math.max(0, place + move))]);
  else if ((event.key === "Enter" || event.key === " ") && place >= 0)
    store.set(cellChosen(store.get(), tokens[place]));
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function recolour({ shown, view, opacity, note, tokens }, state) {
  const colourOf = patchColours(state, view);
  const patches = shown.flatMap(({ grid }) => Array.from(grid.tokens)).filter((token) => token >= 0);
  const strongest = patches.reduce(
    (best, token) => (best < 0 || colourOf(token).strength > colourOf(best).strength ? token : best),
    -1,
  );
  for (const image of shown) colour(image, inksOf(state, view.scale.signed), colourOf, Number(opacity.value));
  if (strongest < 0 && state.result.kind !== "tokens")
    note.textContent = `None of these ${state.result.kind} lies in a picture: nothing is coloured.`;
  else if (strongest < 0)
    note.textContent =
      "This run masked no image tokens (mask mode text): nothing is coloured. With --mask-mode both the picture is measured too.";
  else if (colourOf(strongest).strength <= 0)
    note.textContent = "No patch is above the noise floor: nothing is coloured.";
  else
    note.textContent = `The larger a patch's value, the stronger its frame and tint. The largest is ${tokenName(tokens[strongest])}${state.result.part === "encoder" ? `. ${encoderNote(state, view)}` : "; words have no part in this scale."}`;
}

export function encoderNote(state, { place }) {
  const there = otherPlace(state);
  const apart = there ? measuredApart(place, there) : "";
  if (apart) return apart;
  const where = measuredWords(place);
  const white = measuredToken(place) < 0 ? "" : ", the patch with the white frame";
  return `${where[0].toUpperCase()}${where.slice(1)}${white}.${clickNote(state, place)}`;
}

/** What a click on a patch does, where that is to be told. */
function clickNote({ result, compare }, place) {
  if (compare) return "";
  if (result.each)
    return ` Click a patch for Full's L2 distances measured at it${place.at === null ? "" : ", the white one for the mean again"}.`;
  return result.run && result.measured === null
    ? " A click only pins: the measured cells are not kept apart in this run."
    : "";
}

/** The token of the one cell that was measured; -1 where there is none. */
function measuredToken({ result, step, at }) {
  return at ?? result.tokens(step).findIndex(({ position }) => position === result.measured);
}

/** Each token's {code, layer, strength} on a scale of the patches alone: beside a much stronger word none would be seen. */
function patchColours(state, view) {
  const choice = chosenLayer(state.layerChoice, view);
  const excluded = Uint8Array.from(view.tokens, ({ type }, token) =>
    view.excludedMask[token] || type !== "vision" ? 1 : 0,
  );
  const { code } = createScale({
    ...view,
    excluded,
    normalise: typeof choice === "number" ? "layer" : "picture",
    curve: state.curve,
    signed: view.scale.signed,
  });
  return overLayers(code, view.rows, choice, inksOf(state, view.scale.signed).zero);
}

/**
 * A frame and a tint for each patch, both as strong as its colour is far from 0's: what is 0, left out or absent shows the
 * picture. The tint is weak, so that what is in a strong patch can still be seen; the style sheet enlarges the cells
 * without smoothing.
 */
function colour({ canvas, grid }, { hex, grounds, zero }, colourOf, opacity) {
  [canvas.width, canvas.height] = [grid.cols * CELL, grid.rows * CELL];
  const pen = canvas.getContext("2d");
  grid.tokens.forEach((token, patch) => {
    const code = token < 0 ? ABSENT : colourOf(token).code;
    const [x, y] = [(patch % grid.cols) * CELL, Math.floor(patch / grid.cols) * CELL];
    if (code < FLAT) paintPatch(pen, x, y, { colour: hex[code], share: Math.abs(code - zero) / (255 - zero), opacity });
    else if (code === UNDEFINED) paintPatch(pen, x, y, { colour: grounds.undefined, share: 1, opacity: 1 });
  });
}

function paintPatch(pen, x, y, { colour, share, opacity }) {
  pen.globalAlpha = share;
  pen.strokeStyle = "#000";
  pen.strokeRect(x + 0.5, y + 0.5, CELL - 1, CELL - 1); // a light frame would be lost on a light picture
  pen.strokeStyle = pen.fillStyle = colour;
  pen.strokeRect(x + 1.5, y + 1.5, CELL - 3, CELL - 3);
  pen.globalAlpha = share * opacity;
  pen.fillRect(x + 2, y + 2, CELL - 4, CELL - 4);
}

/** Frames and the readout, of what is drawn of this state: nothing is told while it is being read. */
function mark({ shown, value, tokens }, state) {
  const view = currentView(state);
  const hovered = hoverToken(state);
  for (const { marks, grid, root, outline } of shown) {
    const frame = (token, name) => {
      const patches = token < 0 ? [] : Array.from(grid.tokens.keys()).filter((patch) => grid.tokens[patch] === token);
      return patches.map((patch) => framed(grid, patch, name));
    };
    const frames = [
      ...frame(view ? measuredToken(view.place) : -1, "measured"),
      ...state.pins.flatMap((token) => frame(token, "pinned")),
      ...(hovered === null ? [] : frame(hovered, "hovered")),
    ];
    marks.replaceChildren(...outline, ...frames);
    root.classList.toggle(
      "holds-hover",
      frames.some((one) => one.classList.contains("hovered")),
    );
  }
  const told = view && hovered !== null && tokens[hovered]?.type === "vision";
  const layer = state.hover?.layer ?? null;
  const cell = told && layer !== null ? `, ${cellText(state, view, layer, hovered)}` : "";
  value.textContent = told ? tokenName(tokens[hovered]) + cell : "";
}

/** A line around a region: each of its patches has one where no other lies beside it. */
function outlined(grid, region) {
  const { cols } = grid;
  return [...region].map((patch) => {
    const one = framed(grid, patch, "rests-on");
    const column = patch % cols;
    const beside = [patch - cols, column < cols - 1 ? patch + 1 : -1, patch + cols, column ? patch - 1 : -1];
    one.style.borderWidth = beside.map((other) => (region.has(other) ? "0" : "3px")).join(" ");
    return one;
  });
}

function framed({ rows, cols }, patch, name) {
  const one = element("div", { class: `patch ${name}` });
  one.style.left = `${((patch % cols) / cols) * 100}%`;
  one.style.top = `${(Math.floor(patch / cols) / rows) * 100}%`;
  one.style.width = `${100 / cols}%`;
  one.style.height = `${100 / rows}%`;
  return one;
}
