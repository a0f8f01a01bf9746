/** Rows in any order become dense blocks, one for each (generation step, variant): no object is made for a row. */
import { ReadError, counted } from "./errors.js";
import { COSINE, IMAGE, INTERACTION, L2, LAYER, NAMES, POSITION, STEP, wholeFault } from "./fields.js";
import { UnitColumns, partsOf, unitFault } from "./units.js";
import { variantOrder } from "./words.js";

export const MOST_LAYERS = 10_000; // as the command line has it
export const MOST_POSITIONS = 1 << 24;
export const MOST_BYTES = 1.2e9; // of distances; 150 million cells in float32
const NO_ROW = -1; // no distance is negative
const SPARE_POSITIONS = 16; // a step has one position more than the one before it

/** One generation step while it is read: the tokens by position, the blocks by variant. */
class OpenStep {
  blocks = [];
  positions = 0; // one more than the last seen
  places = null;
  units = new UnitColumns();

  constructor(value, room) {
    this.value = value;
    this.room = room;
    this.words = new Int32Array(room).fill(-1);
  }

  widen(position) {
    if (position >= this.words.length) {
      const larger = new Int32Array(Math.max(position + 1, 2 * this.words.length)).fill(-1);
      larger.set(this.words);
      this.words = larger;
    }
    this.positions = Math.max(this.positions, position + 1);
  }
}

export class TableBuilder {
  rows = 0;
  #Floats;
  #words;
  #units;
  #steps = new Map();
  #step = new OpenStep(NaN, 0); // NaN is no step and no layer
  #layers = new Map(); // number -> index by first appearance
  #layer = [NaN, -1];
  #bytes = 0;

  /**
   * @param {{float64: boolean, words: import("./words.js").Words, variants: import("./words.js").Words,
   *   units?: {kinds: import("./words.js").Words, positions: import("./words.js").Words}|null}} options
   *   `words` and `variants` number the texts that `add` gets, `units` those that `column` gets, where rows are units
   */
  constructor({ float64, words, variants, units = null }) {
    this.#Floats = float64 ? Float64Array : Float32Array;
    this.#words = words;
    this.variants = variants;
    this.#units = units;
  }

  /** The number that stands for a unit of the next row's step, in the place of its position. */
  column(stepValue, position, word, unit, positions) {
    if (stepValue !== this.#step.value) this.#step = this.#stepOf(stepValue);
    const { units } = this.#step;
    const known = units.columns.length;
    const column = units.number(unit, positions, word, position);
    if (column < known) return column;
    const fault = unitFault(this.#units.kinds.texts[unit], this.#units.positions.texts[positions], position);
    return fault === null ? column : this.#inNextRow(fault);
  }

  /**
   * One row, as numbers; NaN for an undefined distance.
   * @returns {boolean} whether it is the first of its token, whose `place` is then wanted
   */
  add(stepValue, layerValue, position, word, variant, l2, cosine) {
    this.rows++;
    if (stepValue !== this.#step.value) this.#step = this.#stepOf(stepValue);
    if (layerValue !== this.#layer[0]) this.#layer = [layerValue, this.#layerOf(layerValue)];
    const step = this.#step;
    const layer = this.#layer[1];
    const known = step.words[position] === word;
    if (!known) this.#nameToken(step, position, word);
    let block = step.blocks[variant];
    if (block === undefined || layer >= block.rows || position >= block.cols)
      block = this.#room(step, variant, layer, position);
    const cell = layer * block.cols + position;
    if (block.l2[cell] !== NO_ROW) this.#twice(stepValue, layerValue, position, variant);
    if (!(l2 >= 0 || l2 !== l2) || l2 === Infinity) this.#notADistance(L2, l2);
    if (!(cosine >= 0 || cosine !== cosine) || cosine === Infinity) this.#notADistance(COSINE, cosine);
    block.l2[cell] = l2;
    block.cosine[cell] = cosine;
    return !known;
  }

  /** The interaction of the last row's pair; NaN for any other unit. */
  interact(layerValue, column, variant, value) {
    if (value !== value) return;
    if (!(value >= 0) || value === Infinity) this.#notADistance(INTERACTION, value);
    const block = this.#step.blocks[variant];
    block.interaction ??= new this.#Floats(block.l2.length).fill(NaN);
    block.interaction[this.#layerOf(layerValue) * block.cols + column] = value;
  }

  /** Where in which image the token of the last row lies; NaN or -1 in each for text. Only a unit may have no patch. */
  place(position, image, row, col) {
    if (!(image >= 0)) return;
    const whole = this.#units !== null && !(row >= 0) && !(col >= 0);
    const place = whole ? [image, -1, -1] : [image, row, col];
    if (!whole) place.forEach((value, index) => this.#whole(IMAGE + index, value, MOST_POSITIONS));
    this.#step.places ??= [];
    this.#step.places[position] = place;
  }

  /** @returns {never} */
  fault(what) {
    throw new ReadError(`row ${counted(this.rows)}: ${what}`);
  }

  /** @returns {never} */
  #inNextRow(what) {
    this.rows++;
    this.fault(what);
  }

  #whole(field, value, limit) {
    const what = wholeFault(field, value, limit);
    if (what) this.fault(what);
    return value;
  }

  #stepOf(value) {
    let step = this.#steps.get(value);
    if (step === undefined) {
      this.#whole(STEP, value, MOST_POSITIONS);
      const before = this.#step.positions;
      step = new OpenStep(value, before ? before + SPARE_POSITIONS : 0);
      this.#steps.set(value, step);
    }
    return step;
  }

  #layerOf(value) {
    let index = this.#layers.get(value);
    if (index === undefined) {
      index = this.#layers.size;
      this.#layers.set(this.#whole(LAYER, value, MOST_LAYERS), index);
    }
    return index;
  }

  #nameToken(step, position, word) {
    this.#whole(POSITION, position, MOST_POSITIONS);
    step.widen(position);
    const other = step.words[position];
    if (other !== -1) {
      const [now, then] = [word, other].map((number) => JSON.stringify(this.#words.texts[number]));
      this.fault(
        `token_masked is ${now}, where an earlier row of step ${step.value} and position ${position} has ${then}`,
      );
    }
    step.words[position] = word;
  }

  /** The variant's block with room for the cell: a new one, or a larger one with what the present one holds. */
  #room(step, variant, layer, position) {
    const old = step.blocks[variant] ?? { rows: 0, cols: 0, l2: [], cosine: [] };
    const rows = layer < old.rows ? old.rows : Math.max(this.#layers.size, old.rows && Math.ceil(1.5 * old.rows));
    const known = Math.max(step.positions, old.cols ? 0 : step.room);
    const cols = position < old.cols ? old.cols : Math.max(known, Math.ceil(1.5 * old.cols));
    this.#bytes += 2 * this.#Floats.BYTES_PER_ELEMENT * (rows * cols - old.rows * old.cols);
    if (this.#bytes > MOST_BYTES) {
      this.fault(
        `with it the distances would take more than ${MOST_BYTES / 1e9} GB of memory (${counted(rows)} layers by ` +
          `${counted(cols)} positions in one picture); write fewer steps, variants or layers into the file`,
      );
    }
    const grow = (from, empty = NO_ROW) => {
      const to = new this.#Floats(rows * cols).fill(empty);
      for (let row = 0; row < old.rows; row++) to.set(from.subarray(row * old.cols, (row + 1) * old.cols), row * cols);
      return to;
    };
    const interaction = old.interaction && grow(old.interaction, NaN);
    step.blocks[variant] = { rows, cols, l2: grow(old.l2), cosine: grow(old.cosine), interaction };
    return step.blocks[variant];
  }

  #twice(step, layer, position, variant) {
    const where = this.#units ? this.#unitName(position) : `position ${position}`;
    this.fault(`generation step ${step}, ${this.variants.texts[variant]}, layer ${layer}, ${where} stands twice`);
  }

  #unitName(column) {
    const { unit, positions } = this.#step.units.columns[column];
    return `${this.#units.kinds.texts[unit]} ${this.#units.positions.texts[positions]}`;
  }

  #notADistance(field, value) {
    this.fault(`${NAMES[field]} is ${value}, where a distance is at least 0 and finite`);
  }

  /** @returns {import("./result.js").Table} */
  finish() {
    if (this.rows === 0) throw new ReadError("has no rows");
    const steps = [...this.#steps.values()].sort((one, other) => one.value - other.value);
    const layers = [...this.#layers.keys()].sort((one, other) => one - other);
    const layerOrder = layers.map((layer) => this.#layers.get(layer));
    const seen = this.variants.texts
      .map((_, variant) => variant)
      .filter((variant) => steps.some((step) => step.blocks[variant]));
    const rank = (variant) => variantOrder(this.variants.texts[variant]);
    const variants = seen.sort((one, other) => rank(one) - rank(other));
    const tokens = steps.map(stepTokens);
    const blocks = steps.map((step, index) =>
      variants.map((variant) => {
        const block = exactBlock(step.blocks[variant], layerOrder, tokens[index].positions, this.#Floats);
        step.blocks[variant] = undefined; // the larger one is free before the next is made
        return block;
      }),
    );
    const parts = this.#units ? this.#parts(steps, tokens, blocks) : null;
    return {
      steps: steps.map((step) => step.value),
      variants: variants.map((variant) => this.variants.texts[variant]),
      layers,
      words: this.#words.texts,
      tokens,
      blocks,
      rows: this.rows,
      ...(parts && { ...parts[0], parts }),
    };
  }

  /** Each kind's tokens and blocks: a column's number was in the place of its position. */
  #parts(steps, tokens, blocks) {
    const named = tokens.map(({ codes, places }, at) => {
      const { columns } = steps[at].units;
      return {
        codes,
        places,
        positions: Int32Array.from(columns, ({ first }) => first),
        kinds: columns.map(({ unit }) => this.#units.kinds.texts[unit]),
        where: columns.map(({ positions }) => this.#units.positions.texts[positions]),
      };
    });
    return partsOf(named, blocks);
  }
}

function stepTokens(step) {
  const positions = [];
  for (let position = 0; position < step.positions; position++)
    if (step.words[position] !== -1) positions.push(position);
  const places = step.places && new Int32Array(3 * positions.length).fill(-1);
  if (places) positions.forEach((position, index) => places.set(step.places[position] ?? [], 3 * index));
  return {
    positions: Int32Array.from(positions),
    codes: Int32Array.from(positions, (position) => step.words[position]),
    places,
  };
}

/** The block of all the table's layers and of the step's positions, absent rows marked and NaN. */
function exactBlock(block, layerOrder, positions, Floats) {
  const [rows, cols] = [layerOrder.length, positions.length];
  const own = block ?? { rows: 0, cols: 0 };
  const inOrder = own.rows === rows && own.cols === cols && layerOrder.every((from, to) => from === to);
  const exact = (values, empty = NO_ROW) => {
    if (inOrder) return values;
    const to = new Floats(rows * cols).fill(empty);
    for (let row = 0; row < rows; row++)
      if (layerOrder[row] < own.rows) copyRow(values, layerOrder[row] * own.cols, own.cols, to, row * cols, positions);
    return to;
  };
  const [l2, cosine] = block ? [exact(block.l2), exact(block.cosine)] : [exact([]), exact([])];
  const found = { l2, cosine, absent: markAbsent(l2, cosine) };
  return own.interaction ? { ...found, interaction: exact(own.interaction, NaN) } : found;
}

function copyRow(from, start, length, to, target, positions) {
  for (let col = 0; col < positions.length; col++) {
    if (positions[col] < length) to[target + col] = from[start + positions[col]];
  }
}

function markAbsent(l2, cosine) {
  if (!l2.includes(NO_ROW)) return null;
  const absent = new Uint8Array(l2.length);
  for (let cell = 0; cell < l2.length; cell++) {
    if (l2[cell] === NO_ROW) {
      absent[cell] = 1;
      l2[cell] = cosine[cell] = NaN;
    }
  }
  return absent;
}
