/** The prompt: the tokens as running text, each on the colour of a layer, linked with the heatmap by hover and pins. */
import { choice, element, setOptions } from "./element.js";
import { pinStyle, pinToggled } from "./pins.js";
import { chunks, folded, withGaps } from "./prose.js";
import { matchesOf } from "./search.js";
import { COLOURED_BY, cellText, chosenLayer, hoverToken, inksOf, paint, tokenColours, tokenName } from "./shown.js";
import { currentView } from "./state.js";
import { rowName, running } from "./words.js";

const ALL_AT_ONCE = 8000; // more spans than these cost 100 ms; beyond, a chunk is made when it comes into view
const LONGEST = 400; // characters shown of one token
const ROUGH_HEIGHT = 160; // of a chunk not made yet, in pixels

/** @returns {{refresh: () => void}} */
export function createText(root, store) {
  const parts = built(root, store);
  const text = { parts, store, blocks: [], tokens: null, view: null, colourOf: null, matches: new Set(), marked: {} };
  const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => seen(text, entry)), {
    rootMargin: "200px",
  });
  text.watcher = watcher;
  listen(text);
  const update = (state, changed = null) => updated(text, state, changed);
  store.subscribe(update);
  update(store.get());
  return { refresh: () => update(store.get()) };
}

function built(root, store) {
  const layers = choice("Text layer", [], (value) =>
    store.set({ layerChoice: /^\d+$/.test(value) ? Number(value) : value }),
  );
  const box = element("div", {
    class: "prose",
    tabindex: 0,
    role: "group",
    "data-testid": "text",
    "aria-label": "Tokens as text. Arrow keys move, Enter pins.",
  });
  const value = element("p", { class: "value muted" });
  const legend = element("p", { class: "muted small" });
  root.classList.add("reading");
  root.append(element("div", { class: "panel-head" }, element("h2", {}, "Prompt"), layers.root), box, value, legend);
  return { box, value, legend, layers: layers.select };
}

function listen(text) {
  const { box } = text.parts;
  const { store } = text;
  const at = (event) => event.target.closest?.("[data-token]");
  box.addEventListener("mouseover", (event) => {
    const span = at(event);
    if (span) store.set({ hover: cellOf(text, span) });
  });
  box.addEventListener("mouseleave", () => store.set({ hover: null }));
  box.addEventListener("click", (event) => {
    const span = at(event);
    if (span) store.set({ pins: pinToggled(store.get().pins, cellOf(text, span).token) });
  });
  box.addEventListener("keydown", (event) => keyed(text, event));
}

/** The cell that hovering an element means: its token in the layer that its colour is from; a chip's strongest patch. */
function cellOf(text, { dataset }) {
  const token =
    dataset.to === undefined ? Number(dataset.token) : strongest(text, Number(dataset.token), Number(dataset.to));
  return cellAt(text, token);
}

function cellAt({ colourOf }, token) {
  return { layer: colourOf ? colourOf(token).layer : null, token };
}

function strongest({ colourOf }, from, to) {
  let best = from;
  for (let token = from + 1; colourOf && token < to; token++)
    if (colourOf(token).strength > colourOf(best).strength) best = token;
  return best;
}

function keyed(text, event) {
  const { store, tokens } = text;
  if (!tokens?.length || event.ctrlKey || event.metaKey || event.altKey) return;
  const state = store.get();
  const token = hoverToken(state);
  const next = { ArrowRight: (token ?? -1) + 1, ArrowLeft: (token ?? 1) - 1, Home: 0, End: tokens.length - 1 }[
    event.key
  ];
  if (next !== undefined) moveTo(text, Math.min(tokens.length - 1, Math.max(0, next)));
  else if ((event.key === "Enter" || event.key === " ") && token !== null)
    store.set({ pins: pinToggled(state.pins, token) });
  else return;
  event.preventDefault();
  event.stopPropagation();
}

function moveTo(text, token) {
  text.store.set({ hover: cellAt(text, token) });
  bringIntoView(text, token);
}

// What changes when

function updated(text, state, changed) {
  const view = currentView(state);
  const has = (...keys) => changed === null || keys.some((key) => changed.has(key));
  if (!state.result) return emptied(text);
  const tokens = state.result.tokens(state.step);
  if (tokens !== text.tokens) rebuild(text, state, tokens);
  if (has("search", "result", "step")) text.matches = new Set(matchesOf(tokens, state.search));
  if (view && (view !== text.view || has(...COLOURED_BY))) recolour(text, state, view);
  else if (has("search")) recolourSeen(text);
  if (has("pins", "result", "step")) markPins(text, state);
  if (has("hover", "result", "step")) markHover(text, state);
  if (changed?.has("step") && !changed.has("result")) bringIntoView(text, tokens.length - 1);
}

function emptied(text) {
  if (text.tokens === null) return;
  text.tokens = text.view = text.colourOf = null;
  text.blocks = [];
  text.watcher.disconnect();
  text.parts.box.replaceChildren();
  text.parts.value.textContent = text.parts.legend.textContent = "";
}

/** New blocks, where they differ from those that stand. A step has the tokens of the step before it and one more. */
function rebuild(text, state, tokens) {
  const pieces = withGaps(folded(tokens, state.result.images), tokens, state.result.seen(state.step));
  const direct = pieces.length <= ALL_AT_ONCE;
  const promptLength = state.result.promptLength ?? Infinity;
  const old = text.blocks;
  text.tokens = tokens;
  text.blocks = chunks(pieces, tokens).map((chunk, index) => {
    const key = chunk.map((piece) =>
      piece.token === undefined ? JSON.stringify(piece) : `${piece.token} ${tokens[piece.token].text}`,
    );
    key.push(promptLength);
    const kept = old[index];
    if (kept && kept.key.length === key.length && kept.key.every((part, place) => part === key[place])) return kept;
    const block = element("div", { class: "chunk" });
    const [first, last] = [chunk[0], chunk.at(-1)];
    return {
      key,
      chunk,
      root: block,
      made: false,
      inView: index === 0,
      dirty: true,
      promptLength,
      tokens,
      from: first.token ?? first.from,
      to: (last.token ?? last.to - 1) + 1,
    };
  });
  text.watcher.disconnect();
  text.parts.box.replaceChildren(...text.blocks.map(({ root }) => root));
  for (const block of text.blocks) {
    block.root.block = block;
    if (direct && !block.made) make(block);
    if (!block.made) block.root.style.minHeight = `${ROUGH_HEIGHT}px`;
    text.watcher.observe(block.root);
  }
  text.marked = {};
  text.parts.box.querySelectorAll(".hovered, .pinned").forEach((span) => span.classList.remove("hovered", "pinned"));
}

function make(block) {
  block.made = true;
  block.root.style.minHeight = "";
  block.root.append(
    ...block.chunk.map((piece) =>
      piece.token !== undefined ? span(block, piece.token) : piece.gap === undefined ? chip(piece) : gap(piece),
    ),
  );
}

/** Text that was not masked: no token to point at, no colour. */
function gap({ gap: words }) {
  const shown = running(words.length > LONGEST ? words.slice(0, LONGEST) : words) + (words.length > LONGEST ? "…" : "");
  return element("bdi", { class: "unmasked muted", title: "Not masked in this run" }, shown);
}

function span({ tokens, promptLength }, token) {
  const { text, position } = tokens[token];
  const shown = running(text.length > LONGEST ? text.slice(0, LONGEST) : text) + (text.length > LONGEST ? "…" : "");
  const kind = position >= promptLength ? "token generated" : "token";
  return element("bdi", { class: kind, "data-token": token }, shown);
}

function chip({ image, from, to, rows, cols }) {
  return element(
    "bdi",
    { class: "token chip", "data-token": from, "data-to": to, "data-image": image },
    `img${image}, ${rows} x ${cols} patches`,
  );
}

// Colour

function recolour(text, state, view) {
  const { layers, legend } = text.parts;
  const choice = chosenLayer(state.layerChoice, view);
  text.view = view;
  const row = rowName(view.place);
  layers.labels[0].textContent = `Text ${row}`;
  text.palette = inksOf(state, view.scale.signed);
  text.colourOf = tokenColours(state, view);
  recolourSeen(text);
  setOptions(
    layers,
    [
      ["max", `maximum over ${row}s`],
      ["mean", `mean over ${row}s`],
      ...view.layers.map((layer, index) => [index, `${row} ${layer}`]),
    ],
    choice,
  );
  legend.textContent = legendText(state, view, choice);
  showValue(text, state);
}

function legendText(state, view, choice) {
  const all = `all ${rowName(view.place)}s on one scale. `;
  const over = {
    max: `The colour is that of a token's strongest cell, ${all}`,
    mean: `The colour is the mean of a token's cells, ${all}`,
  };
  const generated = view.tokens.at(-1)?.position >= (state.result.promptLength ?? Infinity);
  const partly =
    view.tokens.length < state.result.seen(state.step).length ? "Without colour: not masked in this run. " : "";
  return (over[choice] ?? "") + partly + (generated ? "Underlined: generated. " : "") + "Click a token to pin it.";
}

function seen(text, entry) {
  const { block } = entry.target;
  block.inView = entry.isIntersecting;
  if (!block.inView) return;
  if (!block.made) {
    make(block);
    const state = text.store.get();
    markPins(text, state);
    markHover(text, state);
  }
  if (block.dirty) colour(text, block);
}

function recolourSeen(text) {
  for (const block of text.blocks) {
    block.dirty = true;
    if (block.inView) colour(text, block);
  }
}

function colour(text, block) {
  if (!block.made || !text.colourOf) return;
  block.dirty = false;
  const spans = block.root.children;
  block.chunk.forEach((piece, place) => {
    if (piece.gap !== undefined) return;
    const token = piece.token ?? strongest(text, piece.from, piece.to); // a chip's colour is its strongest patch's
    paint(spans[place], text.colourOf(token).code, text.palette);
    spans[place].classList.toggle("match", text.matches.has(piece.token));
  });
}

// Marks

/** Where a token stands: {block, span}; span is null where the block is not made yet. */
function placeOf({ blocks }, token) {
  const block = blocks.find(({ from, to }) => token >= from && token < to);
  const place =
    block?.chunk.findIndex((piece) => piece.token === token || (token >= piece.from && token < piece.to)) ?? -1;
  return { block: block ?? null, span: block?.root.children[place] ?? null };
}

function spanOf(text, token) {
  return placeOf(text, token).span;
}

/** Give a class to these elements, and take it from those that had it. */
function mark(text, name, spans) {
  for (const span of text.marked[name] ?? []) if (!spans.includes(span)) span.classList.remove(name);
  for (const span of spans) span.classList.add(name);
  text.marked[name] = spans;
}

function markPins(text, { pins }) {
  const added = pins.length > (text.pinned?.length ?? 0) ? pins.at(-1) : null;
  text.pinned = pins;
  const spans = pins.map((token) => spanOf(text, token));
  spans.forEach((span, index) => span?.style.setProperty("--pin", pinStyle(index).colour));
  mark(text, "pinned", spans.filter(Boolean));
  if (added !== null && !text.parts.box.matches(":hover")) bringIntoView(text, added);
}

function markHover(text, state) {
  const token = hoverToken(state);
  mark(text, "hovered", token === null ? [] : [spanOf(text, token)].filter(Boolean));
  showValue(text, state);
}

function showValue({ parts, view, tokens }, state) {
  const token = hoverToken(state);
  if (!view || token === null || !tokens?.[token]) {
    parts.value.textContent = "";
    return;
  }
  const layer = state.hover.layer ?? null;
  const where = layer === null ? "" : `, ${cellText(state, view, layer, token)}`;
  parts.value.textContent = tokenName(tokens[token]) + where;
}

/** Scroll the text, and only the text, to a token. */
function bringIntoView(text, token) {
  const { box } = text.parts;
  const { block } = placeOf(text, token);
  if (block && !block.made) make(block);
  const span = spanOf(text, token);
  if (!span) return;
  const [inner, outer] = [span.getBoundingClientRect(), box.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom)
    box.scrollTop += inner.top - outer.top - box.clientHeight / 3;
}
