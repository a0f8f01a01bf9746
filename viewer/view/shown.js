/** What the panels share: names and numbers as they are shown, the colours of cells, and going to a cell. */
import { cellFacts } from "./cell.js";
import { paletteOf } from "./colours.js";
import { placed } from "./columns.js";
import { inkOn } from "./ink.js";
import { overLayers } from "./prose.js";
import { FLAT, SHADE_NAMES } from "./scale.js";
import { METRIC_NAMES } from "./state.js";
import { header, rowName } from "./words.js";

const ZERO_OF_SIGNED = 128;

export function metricName({ metric }) {
  return METRIC_NAMES[metric];
}

/** What the values of a view are. */
export function valueName(state, view) {
  return view.scale.signed ? `${metricName(state)}, difference` : metricName(state);
}

export function variantName({ result, variant }) {
  return result.variants[variant];
}

/** The token pointed at, by its index, or null. */
export function hoverToken({ hover }) {
  return hover?.token ?? null;
}

export function tokenName(token) {
  return `${header(token.text, 40)} at ${placed(token)}`;
}

/** A cell of the view in words: its layer, its value with all digits, and what is to be known of it. */
export function cellText(state, view, layer, token) {
  const { measure, relation } = cellFacts(state, view, layer, token);
  return `${rowName(view.place)} ${view.layers[layer]}, ${measure}. ${relation}`;
}

// Colours

/** The state's keys that a token's colour depends on. */
export const COLOURED_BY = [
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
  "layerChoice",
  "compare",
  "otherResult",
];

const inked = new Map(); // by a palette: what stands out on each of its colours

/** The palette of a state: {hex, grounds} as colours.js gives it, and `inks`, black or white, for each of `hex`. */
export function inksOf(state, signed = false) {
  const palette = paletteOf(signed ? "difference" : state.palette, state.dark);
  if (!inked.has(palette)) inked.set(palette, palette.hex.map(inkFor));
  return { ...palette, inks: inked.get(palette), zero: signed ? ZERO_OF_SIGNED : 0 };
}

function inkFor(colour) {
  const bits = Number.parseInt(colour.slice(1), 16);
  return inkOn(bits >> 16, (bits >> 8) & 0xff, bits & 0xff);
}

/** Give an element the ground of a code (0..255, FLAT..), ink to be read on it, and its sign by data-shade. */
export function paint(one, code, { hex, grounds, inks, zero }) {
  const place = code === FLAT ? zero : code; // drawn as nothing
  const colour = place < FLAT;
  one.style.backgroundColor = colour ? hex[place] : grounds[SHADE_NAMES[code - FLAT]];
  one.style.color = colour ? inks[place] : "";
  if (code >= FLAT) one.dataset.shade = SHADE_NAMES[code - FLAT];
  else if (one.dataset.shade !== undefined) delete one.dataset.shade;
}

let lastColours = { view: null };

/**
 * Each token's {code, layer, strength} in the chosen layer, or over all on one scale, when asked; several panels ask for
 * the same ones.
 */
export function tokenColours({ layerChoice }, view) {
  const choice = chosenLayer(layerChoice, view);
  if (lastColours.view !== view || lastColours.choice !== choice) {
    const { code } = typeof choice === "number" ? view.scale : view.overall();
    const of = overLayers(code, view.rows, choice, view.scale.signed ? ZERO_OF_SIGNED : 0);
    lastColours = { view, choice, of };
  }
  return lastColours.of;
}

export function chosenLayer(layerChoice, { rows }) {
  return typeof layerChoice === "number" ? Math.min(layerChoice, rows - 1) : layerChoice;
}

/** Show a cell: its variant, and the heatmap and the text moved to where it is. */
export function goTo(store, { variant, layer, token }, { pin = true } = {}) {
  const { pins } = store.get();
  const added = pin && token !== null && !pins.includes(token) ? [...pins, token] : pins;
  store.set({ variant, layerChoice: layer, pins: added, hover: token === null ? null : { layer, token } });
}
