/**
 * The state in the address, behind "#": only what differs from the defaults, by names and numbers that mean the same in
 * another browser (a step's number, a variant's name, a token's position), never by index.
 */
import { KINDS } from "../read/units.js";
import { foundAgain, inOrder, keyOf } from "./columns.js";
import { CHOICES, DEFAULTS } from "./state.js";

const SEVERAL = /^\d{1,8}(?=\D)(?:-\d{1,8})?(?:\.\d{1,8}(?:-\d{1,8})?)*$/;
const LONGEST = 2000; // positions written at most: an address is no place for more

/** @returns {string} without "#"; "" where all is as it starts */
export function encodeState(state) {
  const parts = [];
  const add = (name, value) =>
    parts.push(`${name}=${encodeURIComponent(value).replaceAll("%2C", ",").replaceAll("%3A", ":")}`);
  const { result } = state;
  if (result) {
    add("run", result.id);
    if (result.kind !== result.kinds[0]) add("units", result.kind);
    if (state.step > 0) add("step", result.steps[state.step]);
    if (state.variant > 0) add("variant", result.variants[state.variant]);
    if (state.pins.length) add("pins", listed(keysOf(state.pins, result.tokens(state.step))));
    if (typeof state.layerChoice === "number") add("text", result.layers[state.layerChoice]);
    if (state.at !== null) add("at", result.tokens(state.step)[state.at].position);
    const compared = compareText(state);
    if (compared) add("compare", compared);
  }
  for (const name of ["metric", "normalise", "curve", "palette"])
    if (state[name] !== DEFAULTS[name]) add(name, state[name]);
  if (state.layerChoice === "mean") add("text", "mean");
  if (state.transposed) add("transposed", 1);
  if (state.cell !== null) add("cell", state.cell);
  if (!sameSets(state.excluded, DEFAULTS.excluded))
    add("excluded", listed(inOrder(state.excluded).slice(0, LONGEST)) || "none");
  if (state.search) add("search", state.search);
  return parts.join("&");
}

function keysOf(pins, tokens) {
  return pins
    .filter((pin) => tokens[pin])
    .map((pin) => keyOf(tokens[pin]))
    .slice(0, LONGEST);
}

/** Keys by commas; within one that has several stretches, points take their place. */
function listed(keys) {
  return keys.map((key) => String(key).replaceAll(",", ".")).join(",");
}

function compareText({ compare, result }) {
  if (!compare || compare.other === null) return null;
  const { kind, other, mode } = compare;
  const name = { step: () => result.steps[other], variant: () => result.variants[other], run: () => other }[kind]();
  return name === undefined ? null : `${kind}:${mode}:${name}`;
}

function sameSets(one, other) {
  return one.size === other.size && [...one].every((value) => other.has(value));
}

/**
 * What an address asks for. Parts that are unknown or make no sense are as if they were not there.
 * @param {string} hash   with or without "#"
 * @returns {{run: string|null, look: object, place: object}} `look`: state that fits any run; `place`: what belongs to the
 *   run: {step, variant, pins, at, text, compare} by their names and numbers
 */
export function decodeState(hash) {
  const given = fields(hash);
  const look = {};
  for (const name of ["metric", "normalise", "curve", "palette"]) {
    if (CHOICES[name].includes(given[name])) look[name] = given[name];
  }
  if (KINDS.includes(given.units)) look.units = given.units;
  if (given.transposed === "1") look.transposed = true;
  if (whole(given.cell) !== null && whole(given.cell) >= 1 && whole(given.cell) <= 64) look.cell = whole(given.cell);
  const excluded = given.excluded === "none" ? [] : keys(given.excluded);
  if (excluded !== null) look.excluded = new Set(excluded);
  if (given.search) look.search = given.search;
  if (given.text === "mean") look.layerChoice = "mean";
  const place = {
    step: whole(given.step),
    variant: given.variant ?? null,
    pins: keys(given.pins) ?? [],
    at: whole(given.at),
    text: whole(given.text),
    compare: comparison(given.compare),
  };
  return { run: given.run ?? null, look, place };
}

/** The part of a state that a decoded `place` means for a result. */
export function placeIn(result, { step, variant, pins, at, text, compare }) {
  const stepIndex = Math.max(0, result.steps.indexOf(step));
  const tokens = result.tokens(stepIndex);
  const found = { step: stepIndex, variant: Math.max(0, result.variants.indexOf(variant)) };
  found.pins = foundAgain([...new Set(pins)], tokens).filter((index) => index >= 0);
  const [token] = foundAgain([at], tokens);
  if (result.each) found.at = token < 0 ? null : token;
  if (text !== null && result.layers.includes(text)) found.layerChoice = result.layers.indexOf(text);
  found.compare = comparisonIn(result, compare);
  return found;
}

function comparisonIn(result, compare) {
  if (!compare) return null;
  const { kind, mode, name } = compare;
  if (kind === "run") return { kind, mode, other: name };
  const other = kind === "step" ? result.steps.indexOf(Number(name)) : result.variants.indexOf(name);
  return other < 0 ? null : { kind, mode, other };
}

function comparison(text) {
  const match = /^(run|step|variant):(side|difference):(.+)$/s.exec(text ?? "");
  return match && { kind: match[1], mode: match[2], name: match[3] };
}

function fields(hash) {
  const found = {};
  for (const part of hash.replace(/^#/, "").split("&")) {
    const at = part.indexOf("=");
    if (at < 1) continue;
    try {
      found[part.slice(0, at)] = decodeURIComponent(part.slice(at + 1));
    } catch {
      continue; // not a valid escape
    }
  }
  return found;
}

function whole(text) {
  return /^\d{1,9}$/.test(text ?? "") ? Number(text) : null;
}

function keys(text) {
  const parts = (text ?? "").split(",").map((part) => (SEVERAL.test(part) ? part.replaceAll(".", ",") : whole(part)));
  return parts.includes(null) ? null : parts;
}
