/** All heads at once: a grid of layers by heads, for one token or for each head's top token. */
import { choice, element } from "./element.js";
import { lazyPanel } from "./lazy.js";
import { excludedMask, headVariants, readMeasured } from "./measured.js";
import { brief } from "./numbers.js";
import { ABSENT, FLAT, SHADE_NAMES, UNDEFINED, createScale } from "./scale.js";
import { goTo, hoverToken, inksOf, metricName, paint, tokenName } from "./shown.js";
import { header, rowName } from "./words.js";

const KEYS = ["result", "step", "metric", "excluded"];
const SETTLED = 60; // ms that a token is pointed at before the grid turns to it
const WORDS_FIT = 24; // heads beside each other, up to which cells have room for text

/** Each layer's largest value of one head: its token and the value, -1 and NaN where there is none above the floor. */
export function layerTops({ matrix, norms, floors }, excluded) {
  const { values, rows, cols } = matrix;
  return Array.from({ length: rows }, (_, layer) => {
    let [token, most] = [-1, Math.max(0, floors[layer] ?? 0)];
    const norm = norms === null ? 1 : norms[layer];
    for (let other = 0, place = layer * cols; other < cols; other++, place++) {
      const value = values[place] / norm;
      if (value > most && excluded[other] === 0) [token, most] = [other, value];
    }
    return { token, value: token < 0 ? NaN : most };
  });
}

/** The cell of a token in a layer of one head: {token, value}, and a code where it is not a distance to colour. */
export function cellOf({ matrix, norms, floors }, layer, token) {
  const place = layer * matrix.cols + token;
  const value = matrix.values[place] / (norms === null ? 1 : norms[layer]);
  if (matrix.absent?.[place]) return { token, value: NaN, code: ABSENT };
  if (Number.isNaN(value)) return { token, value, code: UNDEFINED };
  return value <= (floors[layer] ?? -1) ? { token, value, code: FLAT } : { token, value };
}

/**
 * The codes of a grid of cells, [layer][head], by the heatmap's curve: shares of the layer's largest here, or of all.
 * @returns {number[][]}
 */
export function gridCodes(grid, normalise, curve) {
  const [rows, cols] = [grid.length, grid[0]?.length ?? 0];
  const values = Float64Array.from(grid.flat(), ({ value, code }) => (code === undefined ? value : NaN));
  const scale = createScale({
    values,
    rows,
    cols,
    absent: null,
    floors: Array(rows).fill(null),
    excluded: new Uint8Array(cols),
    normalise: normalise === "layer" ? "layer" : "picture",
    curve,
  });
  return grid.map((cells, layer) =>
    cells.map(({ token, value, code }) => (token < 0 ? FLAT : (code ?? scale.colourIndex(layer, value)))),
  );
}

export function createHeads(root, store) {
  const heads = { store, mode: "token", variants: [], measured: [], tops: [], state: null, built: "" };
  const mode = choice(
    "Show in heads",
    [
      ["token", "pinned or pointed-at token"],
      ["top", "each head's top token"],
    ],
    (value) => {
      heads.mode = value;
      if (heads.state) show(heads);
    },
  );
  const name = "Layers by heads. Arrow keys move, Enter goes there.";
  heads.grid = element("div", { class: "heads-grid", "data-testid": "heads", role: "group", "aria-label": name });
  heads.line = element("p", { class: "value muted" });
  heads.panel = lazyPanel(root, store, {
    title: "All heads at once",
    keys: KEYS,
    variants: ({ result }) => headVariants(result),
    fill: (state, signal) => fill(heads, state, signal),
    touch: (state, changed) => touch(heads, changed),
  });
  heads.panel.body.append(mode.root, element("div", { class: "scroll" }, heads.grid), heads.line);
  listen(heads);
}

function listen(heads) {
  const { grid, store } = heads;
  const at = (event) => event.target.closest?.("button[data-head]");
  grid.addEventListener("click", (event) => {
    const cell = at(event) && heads.cells.get(at(event));
    if (cell) goTo(store, cell, { pin: heads.mode === "top" });
  });
  for (const kind of ["mouseover", "focusin"])
    grid.addEventListener(kind, (event) => at(event) && tell(heads, at(event)));
  grid.addEventListener("keydown", (event) => keyed(heads, event, at(event)));
}

function tell(heads, button) {
  heads.line.textContent = button.title;
}

function keyed(heads, event, button) {
  const width = heads.variants.length;
  const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: width, ArrowUp: -width }[event.key];
  if (!button || move === undefined) return;
  event.preventDefault();
  event.stopPropagation();
  const next = heads.buttons[heads.buttons.indexOf(button) + move];
  if (!next) return;
  button.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

async function fill(heads, state, signal) {
  const variants = headVariants(state.result);
  const excluded = excludedMask(state);
  const [measured, tops] = [[], []];
  if (variants.length === 0) heads.panel.status("This result has no heads: it was measured without them.");
  await readMeasured(state, variants, {
    signal,
    each(one, variant, done) {
      measured.push(one);
      tops.push(layerTops(one, excluded));
      if (done < variants.length) heads.panel.status(`${done} of ${variants.length} heads …`);
    },
  });
  if (signal.aborted) return;
  Object.assign(heads, { variants, measured, tops, state });
  show(heads);
}

function touch(heads, changed) {
  if (!heads.state) return;
  if (["normalise", "curve", "palette", "dark", "pins"].some((key) => changed.has(key))) return show(heads);
  if (!changed.has("hover") || heads.mode === "top" || heads.store.get().pins.length) return;
  clearTimeout(heads.timer);
  heads.timer = setTimeout(() => hoverToken(heads.store.get()) !== null && show(heads), SETTLED);
}

/** The token to show: the last one pinned, else the one pointed at, else the strongest of all heads. */
function shownToken({ tops }, state, count) {
  const chosen = state.pins.at(-1) ?? hoverToken(state);
  if (chosen !== null && chosen < count) return chosen;
  let best = { token: 0, value: 0 };
  for (const layers of tops) for (const top of layers) if (top.value > best.value) best = top;
  return best.token;
}

function show(heads) {
  const { store, measured, tops, variants, mode, panel } = heads;
  const state = store.get();
  if (state.result !== heads.state.result || state.step !== heads.state.step || !variants.length) return;
  const { layers } = state.result;
  const tokens = state.result.tokens(state.step);
  const token = shownToken(heads, state, tokens.length);
  const grid = layers.map((_, layer) =>
    variants.map((_, head) => (mode === "top" ? tops[head][layer] : cellOf(measured[head], layer, token))),
  );
  build(
    heads,
    layers,
    variants.map((variant) => state.result.variants[variant]),
    rowName(state),
  );
  coloured(heads, state, grid, tokens);
  const share = state.normalise === "layer" ? `the ${rowName(state)}'s largest here` : "the largest here";
  panel.status(
    `${mode === "top" ? "Each head's top token" : tokenName(tokens[token])}: ${metricName(state)} as a share of ${share}.`,
  );
}

/** The grid's elements: made again only where layers or heads are others. */
function build(heads, layers, names, row) {
  const built = JSON.stringify([layers, names, row]);
  if (built === heads.built) return;
  heads.built = built;
  const every = names.length > 32 ? 4 : 1;
  const numbers = names.map((name) => name.replace("Head_", ""));
  heads.buttons = layers.flatMap((layer) =>
    numbers.map((head) => element("button", { type: "button", "data-layer": layer, "data-head": head, tabindex: -1 })),
  );
  if (heads.buttons.length) heads.buttons[0].tabIndex = 0;
  heads.grid.style.setProperty("--heads", names.length);
  heads.grid.classList.toggle("dense", names.length > WORDS_FIT);
  heads.grid.replaceChildren(
    element("span", { class: "heads-corner" }, `${row} \\ head`),
    ...numbers.map((head, index) => element("span", { class: "head-label" }, index % every ? "" : head)),
    ...layers.flatMap((layer, row) => [
      element("span", { class: "layer-label" }, String(layer)),
      ...heads.buttons.slice(row * names.length, (row + 1) * names.length),
    ]),
  );
}

function coloured(heads, state, grid, tokens) {
  const { variants, buttons, mode } = heads;
  const palette = inksOf(state);
  const codes = gridCodes(grid, state.normalise, state.curve);
  const roomy = variants.length <= WORDS_FIT;
  heads.cells = new Map();
  grid.forEach((row, layer) =>
    row.forEach(({ token, value, code }, head) => {
      const button = buttons[layer * variants.length + head];
      const name = `${rowName(state) === "block" ? "Block" : "Layer"} ${button.dataset.layer}, head ${button.dataset.head}`;
      button.title = `${name}: ${token < 0 ? "nothing above the noise floor" : `${tokenName(tokens[token])}, ${inWords(value, code)}`}`;
      button.setAttribute("aria-label", button.title);
      button.textContent =
        !roomy || token < 0
          ? ""
          : mode === "top"
            ? header(tokens[token].text, 6)
            : Number.isNaN(value)
              ? ""
              : brief(value, 2);
      paint(button, codes[layer][head], palette);
      heads.cells.set(button, { layer, variant: variants[head], token: token < 0 ? null : token });
    }),
  );
}

function inWords(value, code) {
  const flat = code === FLAT ? ", at or below the noise floor" : "";
  return code === undefined || flat ? value + flat : code === ABSENT ? "not in the table" : SHADE_NAMES[code - FLAT];
}
