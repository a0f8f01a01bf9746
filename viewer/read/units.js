/** Rows that are units: sets of positions by their kind, as `unit` and `positions` name them. */
import { quoted } from "./errors.js";
import { NAMES, POSITION, POSITIONS, UNIT } from "./fields.js";

export const KINDS = ["tokens", "words", "sentences", "lines", "messages", "images", "spans", "pairs"];
const OVERLAPPING = ["spans", "pairs"]; // in the order given; those of other kinds by position

/** May units of this kind share positions? */
export function overlaps(kind) {
  return OVERLAPPING.includes(kind);
}

/**
 * The stretches of `3-5,9`: [[3, 5], [9, 9]].
 * @returns {number[][]|null} null where they do not ascend, or for another text
 */
export function stretches(text) {
  if (!/^\d{1,8}(?:-\d{1,8})?(?:,\d{1,8}(?:-\d{1,8})?)*$/.test(text)) return null;
  const found = text.split(",").map((part) => {
    const [first, last = first] = part.split("-").map(Number);
    return [first, last];
  });
  const ascend = found.every(([first, last], at) => first <= last && (at === 0 || first > found[at - 1][1]));
  return ascend ? found : null;
}

/**
 * A step's columns: each set of positions of a kind under a label is one, numbered as they come. Two spans may hide the
 * same positions, so that a kind and positions are not always enough.
 */
export class UnitColumns {
  columns = []; // { unit, positions, word, first }
  #byPositions = [];

  /**
   * @param {number} unit   all by the numbers of their texts
   * @param {number} first  of `positions`
   * @returns {number} the column, a new one if there was none
   */
  number(unit, positions, word, first) {
    const alike = (this.#byPositions[positions] ??= []);
    for (const column of alike) {
      const known = this.columns[column];
      if (known.word === word && known.unit === unit) return column;
    }
    alike.push(this.columns.length);
    return this.columns.push({ unit, positions, word, first }) - 1;
  }
}

/** What keeps these texts of a row from being a unit's that begins at `first`, or null. */
export function unitFault(kind, positions, first) {
  if (!KINDS.includes(kind)) return `${NAMES[UNIT]} is ${quoted(kind ?? "")}, where a result has ${KINDS.join(", ")}`;
  const found = stretches(positions ?? "");
  if (found === null)
    return `${NAMES[POSITIONS]} is ${quoted(positions ?? "")}, where ascending ones belong, such as 3-5 or 3,7`;
  return found[0][0] === first
    ? null
    : `${NAMES[POSITION]} is ${first}, where ${NAMES[POSITIONS]} begin at ${found[0][0]}`;
}

/**
 * A table with one part for each kind: its own tokens and blocks, all else shared.
 * @param {object[]} tokens   of each step: {kinds, positions, codes, places, where}, in the order of their columns
 * @param {(object|null)[][]} blocks   [step][variant], with the columns in that order
 * @returns {{kind: string, tokens: object[], blocks: object[][]}[]} in the order in which kinds first come, pairs last
 */
export function partsOf(tokens, blocks) {
  const seen = new Set(tokens.flatMap(({ kinds }) => kinds));
  const kinds = [...seen].sort((one, other) => (one === "pairs") - (other === "pairs"));
  return kinds.map((kind) => ({
    kind,
    tokens: tokens.map((step) => tokensOf(step, kind)),
    blocks: blocks.map((variants, step) => variants.map((block) => block && blockOf(block, tokens[step], kind))),
  }));
}

function columnsOf({ kinds, positions }, kind) {
  const found = kinds.flatMap((other, column) => (other === kind ? [column] : []));
  return Int32Array.from(overlaps(kind) ? found : found.sort((one, other) => positions[one] - positions[other]));
}

/** Tokens one by one are what they are in any other table. */
function tokensOf(step, kind) {
  const { positions, codes, places, where } = step;
  const columns = columnsOf(step, kind);
  return {
    positions: columns.map((column) => positions[column]),
    codes: columns.map((column) => codes[column]),
    places:
      places && Int32Array.from([...columns].flatMap((column) => [...places.subarray(3 * column, 3 * column + 3)])),
    where: kind === "tokens" ? null : Array.from(columns, (column) => where[column]),
  };
}

/** A kind's columns of a block, given the step's tokens; only pairs interact. */
export function blockOf({ l2, cosine, absent, interaction }, step, kind) {
  const columns = columnsOf(step, kind);
  const cols = step.kinds.length;
  const chosen = (values) => {
    if (!values) return null;
    const rows = cols ? values.length / cols : 0;
    const to = new values.constructor(rows * columns.length);
    for (let row = 0, at = 0; row < rows; row++)
      for (let col = 0; col < columns.length; col++) to[at++] = values[row * cols + columns[col]];
    return to;
  };
  const missing = chosen(absent);
  const own = { l2: chosen(l2), cosine: chosen(cosine), absent: missing?.includes(1) ? missing : null };
  return interaction && kind === "pairs" ? { ...own, interaction: chosen(interaction) } : own;
}
