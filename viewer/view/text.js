/** The prompt: the tokens as running text, each on the colour of a layer, linked with the heatmap by hover and pins. */
import { overlaps } from "../read/units.js";
import { positionWords } from "./columns.js";
import { choice, element, setOptions } from "./element.js";
import { pinStyle, pinToggled } from "./pins.js";
import { chunks, folded, unitPieces, withGaps } from "./prose.js";
import { matchesOf } from "./search.js";
import { COLOURED_BY, cellText, chosenLayer, hoverToken, inksOf, paint, tokenColours, tokenName } from "./shown.js";
import { currentView } from "./state.js";
import { header, rowName, running, tokenWord } from "./words.js";

const ALL_AT_ONCE = 8000; // more spans than these cost 100 ms; beyond, a chunk is made when it comes into view
const LONGEST = 400; // characters shown of one token
const LONGEST_NAME = 60; // and of a unit in the list
const ROUGH_HEIGHT = 160; // of a chunk not made yet, in pixels

/** @returns {{refresh: () => void}} */
export function createText(root, store) {
  const parts = built(root, store);
  const text = {
    parts,
    store,
    blocks: [],
    listed: [],
    tokens: null,
    view: null,
    colourOf: null,
    matches: new Set(),
    marked: {},
  };
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
  const list = element("div", {
    class: "prose unit-list",
    "data-testid": "unit-list",
    role: "group",
    "aria-label": "All of this kind",
    hidden: true,
  });
  const value = element("p", { class: "value muted" });
  const legend = element("p", { class: "muted small" });
  root.classList.add("reading");
  root.append(
    element("div", { class: "panel-head" }, element("h2", {}, "Prompt"), layers.root),
    box,
    list,
    value,
    legend,
  );
  return { root, box, list, value, legend, layers: layers.select };
}

function listen(text) {
  const { box, list } = text.parts;
  const { store } = text;
  const at = (event) => event.target.closest?.("[data-token]");
  for (const place of [box, list]) {
    place.addEventListener("mouseover", (event) => {
      const span = at(event);
      if (span) store.set({ hover: cellOf(text, span) });
    });
    place.addEventListener("mouseleave", () => store.set({ hover: null }));
    place.addEventListener("click", (event) => {
      const span = at(event);
      if (span) store.set({ pins: pinToggled(store.get().pins, cellOf(text, span).token) });
    });
  }
  box.addEventListener("keydown", (event) => keyed(text, event));
}

/** The cell that hovering an element means: its token in the layer that its colour is from; a chip's strongest patch. */
function cellOf(text, span) {
  return cellAt(text, strongest(text, span.piece));
}

function cellAt({ colourOf }, token) {
  return { layer: colourOf ? colourOf(token).layer : null, token };
}

/** Of a piece's tokens, or of the units that hold it. */
function strongest({ colourOf }, { token, units, from, to }) {
  let best = token ?? from;
  const better = (other) => colourOf(other).strength > colourOf(best).strength;
  if (!colourOf) return best;
  for (const other of units ?? []) if (better(other)) best = other;
  for (let other = best + 1; other < to; other++) if (better(other)) best = other; // a chip's; a token has no end
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
  if (changed?.has("step") && !changed.has("result") && !overlaps(state.result.kind))
    bringIntoView(text, tokens.length - 1);
}

function emptied(text) {
  if (text.tokens === null) return;
  text.tokens = text.view = text.colourOf = null;
  text.blocks = text.listed = [];
  text.watcher.disconnect();
  text.parts.box.replaceChildren();
  text.parts.list.replaceChildren();
  text.parts.value.textContent = text.parts.legend.textContent = "";
}

/** New blocks, where they differ from those that stand. A step has the tokens of the step before it and one more. */
function rebuild(text, state, tokens) {
  const { box, list } = text.parts;
  const { pieces, named } = piecesOf(state, tokens);
  text.tokens = tokens;
  text.watcher.disconnect();
  text.blocks = filled(text, box, pieces, { state, old: text.blocks });
  text.listed = filled(text, list, named, { state, old: text.listed });
  list.hidden = !named.length;
  box.hidden = !pieces.length;
  text.marked = {};
  for (const marked of text.parts.root.querySelectorAll(".hovered, .pinned"))
    marked.classList.remove("hovered", "pinned");
}

/** The running text; and of units that may overlap there the list of all. */
function piecesOf({ result, step }, tokens) {
  const texts = result.seen(step);
  if (result.kind === "tokens") return { pieces: withGaps(folded(tokens, result.images), tokens, texts), named: [] };
  const overlap = overlaps(result.kind);
  const cuts = result.promptLength === null ? [] : [result.promptLength];
  const names = tokens.map((unit, token) => ({ token, units: [token], name: header(unit.text, LONGEST_NAME) }));
  return { pieces: unitPieces(tokens, texts, { overlap, cuts }), named: overlap ? names : [] };
}

function filled(text, box, pieces, { state, old }) {
  const { tokens } = text;
  const direct = pieces.length <= ALL_AT_ONCE;
  const promptLength = state.result.promptLength ?? Infinity;
  const blocks = chunks(pieces, tokens).map((chunk, index) => {
    const key = chunk.map((piece) =>
      piece.token === undefined || piece.units ? JSON.stringify(piece) : `${piece.token} ${tokens[piece.token].text}`,
    );
    key.push(promptLength);
    const kept = old[index];
    if (kept && kept.key.length === key.length && kept.key.every((part, place) => part === key[place])) return kept;
    const root = element("div", { class: "chunk" });
    return {
      key,
      chunk,
      root,
      made: false,
      inView: index === 0,
      dirty: true,
      promptLength,
      tokens,
      ...extentOf(chunk),
    };
  });
  box.replaceChildren(...blocks.map(({ root }) => root));
  for (const block of blocks) {
    block.root.block = block;
    if (direct && !block.made) make(block);
    if (!block.made) block.root.style.minHeight = `${ROUGH_HEIGHT}px`;
    text.watcher.observe(block.root);
  }
  return blocks;
}

/** The tokens among which a chunk's are; units come in any order. */
function extentOf(chunk) {
  const [first, last] = [chunk[0], chunk.at(-1)];
  if (chunk.some(({ units }) => units)) return { from: 0, to: Infinity };
  return { from: first.token ?? first.from, to: (last.token ?? last.to - 1) + 1 };
}

function make(block) {
  block.made = true;
  block.root.style.minHeight = "";
  block.root.append(...block.chunk.map((piece) => Object.assign(madeOf(block, piece), { piece })));
}

function madeOf(block, piece) {
  if (piece.gap !== undefined) return gap(piece);
  if (piece.token === undefined) return chip(piece);
  return piece.name === undefined ? span(block, piece) : listed(block, piece);
}

/** Text that was not masked: no token to point at, no colour. */
function gap({ gap: words }) {
  return element("bdi", { class: "unmasked muted", title: "Not masked in this run" }, shortened(words));
}

function shortened(words) {
  return running(words.length > LONGEST ? words.slice(0, LONGEST) : words) + (words.length > LONGEST ? "…" : "");
}

/** A token, or a stretch of a unit, which is never cut. */
function span({ tokens, promptLength }, { token, units, text, position = tokens[token].position }) {
  const kind = position >= promptLength ? "token generated" : "token";
  const shared = units?.length > 1 ? " shared" : "";
  const shown = units ? running(text) : shortened(tokens[token].text);
  return element("bdi", { class: kind + shared, "data-token": token }, shown);
}

/** A unit by its name, in the list. */
function listed({ tokens }, { token, name }) {
  return element("bdi", { class: "token chip", "data-token": token, title: positionWords(tokens[token]) }, name);
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
  legend.textContent = legendText(text, state, view, choice);
  showValue(text, state);
}

function legendText(text, state, view, choice) {
  const all = `all ${rowName(view.place)}s on one scale. `;
  const word = tokenWord(view.place);
  const over = {
    max: `The colour is that of a ${word}'s largest cell, ${all}`,
    mean: `The colour is the mean of a ${word}'s cells, ${all}`,
  };
  const overlap = overlaps(state.result.kind) ? "Dotted: in several, coloured by the largest; each is listed. " : "";
  const seenNow = state.result.seen(state.step).length;
  const last = Math.max(...view.tokens.slice(-1).map(({ position }) => position), word === "token" ? -1 : seenNow - 1);
  const generated = last >= (state.result.promptLength ?? Infinity);
  const gaps = text.blocks.some(({ chunk }) => chunk.some((piece) => piece.gap !== undefined));
  const partly = !gaps ? "" : `Without colour: ${word === "token" ? "not masked in this run" : `in no ${word}`}. `;
  return `${over[choice] ?? ""}${overlap}${partly}${generated ? "Underlined: generated. " : ""}Click a ${word} to pin it.`;
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
  for (const block of [...text.blocks, ...text.listed]) {
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
    const token = strongest(text, piece); // a chip's colour is its strongest patch's
    paint(spans[place], text.colourOf(token).code, text.palette);
    spans[place].classList.toggle(
      "match",
      (piece.units ?? [piece.token]).some((one) => text.matches.has(one)),
    );
  });
}

// Marks

/** Where a token stands: {block, span}, a unit perhaps more than once; span is null where the block is not made yet. */
function placesOf({ blocks, listed }, token) {
  const found = [];
  const has = (piece) =>
    piece.units ? piece.units.includes(token) : piece.token === token || (token >= piece.from && token < piece.to);
  for (const block of [...blocks, ...listed]) {
    if (token < block.from || token >= block.to) continue;
    block.chunk.forEach((piece, at) => has(piece) && found.push({ block, span: block.root.children[at] ?? null }));
  }
  return found;
}

function spansOf(text, token) {
  return placesOf(text, token).flatMap(({ span }) => span ?? []);
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
  const spans = pins.map((token) => spansOf(text, token));
  spans.forEach((own, index) => own.forEach((span) => span.style.setProperty("--pin", pinStyle(index).colour)));
  mark(text, "pinned", spans.flat());
  if (added !== null && !text.parts.root.querySelector(".prose:hover")) bringIntoView(text, added);
}

function markHover(text, state) {
  const token = hoverToken(state);
  mark(text, "hovered", token === null ? [] : spansOf(text, token));
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

/** Scroll the text and the list, and only those, to a token. */
function bringIntoView(text, token) {
  const { box, list } = text.parts;
  for (const place of [box, list]) {
    const found = placesOf(text, token).find(({ block }) => block.root.parentElement === place);
    if (found && !found.block.made) make(found.block);
    const span = found && spansOf(text, token).find((one) => place.contains(one));
    if (span) scrollWithin(place, span);
  }
}

function scrollWithin(box, span) {
  const [inner, outer] = [span.getBoundingClientRect(), box.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom)
    box.scrollTop += inner.top - outer.top - box.clientHeight / 3;
}
