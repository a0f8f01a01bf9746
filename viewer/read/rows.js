/** Numbers and texts of one row, and what every reader does with them. */
import { TableBuilder } from "./builder.js";
import { NeedsFloat64, ReadError, counted } from "./errors.js";
import {
  COL,
  COSINE,
  IMAGE,
  INTERACTION,
  L2,
  LAYER,
  NAMES,
  POSITION,
  POSITIONS,
  ROW,
  STEP,
  TOKEN,
  UNIT,
  VARIANT,
} from "./fields.js";
import { NumberReader } from "./numbers.js";
import { Spellings, Words, variantName } from "./words.js";

/** What the readers of rows share: a row's values, from which `take` makes one more row of the table. */
export class Rows {
  values = new Float64Array(NAMES.length).fill(NaN); // of texts their numbers; NaN for what is empty
  placed = false; // has the table images?
  ofUnits = false; // are its rows units?

  /**
   * @param {{float64?: boolean, anyDigits?: boolean}} options  see readTable
   * @param {(bytes: Uint8Array) => string} toText  reads one spelling of a text
   */
  constructor({ float64 = false, anyDigits = false }, toText) {
    this.numbers = new NumberReader(!float64);
    this.numbers.wide = float64 || anyDigits; // then nobody asks
    this.widenable = !this.numbers.wide;
    this.float64 = float64;
    const tokens = new Words();
    const variants = new Words();
    this.units = { kinds: new Words(), positions: new Words() };
    this.texts = { words: tokens, variants };
    this.spellings = [];
    const spelled = (field, words, known = (text) => text) => {
      this.spellings[field] = new Spellings(words, (bytes) => this.located(NAMES[field], () => known(toText(bytes))));
    };
    spelled(TOKEN, tokens);
    spelled(VARIANT, variants, variantName);
    spelled(UNIT, this.units.kinds);
    spelled(POSITIONS, this.units.positions);
    this.build(false);
  }

  /** Begin with the rows, once it is known whether they are units. */
  build(ofUnits) {
    this.ofUnits = ofUnits;
    this.builder = new TableBuilder({ float64: this.float64, ...this.texts, units: ofUnits ? this.units : null });
  }

  take() {
    if (this.ofUnits) return this.takeUnit();
    const { values, builder } = this;
    if (this.widenable && this.numbers.wide) throw new NeedsFloat64();
    const isNew = builder.add(
      values[STEP],
      values[LAYER],
      values[POSITION],
      values[TOKEN],
      values[VARIANT],
      values[L2],
      values[COSINE],
    );
    if (isNew && this.placed) builder.place(values[POSITION], values[IMAGE], values[ROW], values[COL]);
  }

  takeUnit() {
    const { values, builder } = this;
    const [step, layer, variant] = [values[STEP], values[LAYER], values[VARIANT]];
    if (this.widenable && this.numbers.wide) throw new NeedsFloat64();
    const column = builder.column(step, values[POSITION], values[TOKEN], values[UNIT], values[POSITIONS]);
    const isNew = builder.add(step, layer, column, values[TOKEN], variant, values[L2], values[COSINE]);
    builder.interact(layer, column, variant, values[INTERACTION]);
    if (isNew && this.placed) builder.place(column, values[IMAGE], values[ROW], values[COL]);
  }

  /** The number, from 1, of the row at hand. */
  get row() {
    return this.builder.rows + 1;
  }

  /** What `read` gives; its fault is given this row and the column. */
  located(column, read) {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof ReadError)) throw error;
      return this.fault(`${column} ${error.message}`);
    }
  }

  /** @returns {never} */
  fault(what) {
    throw new ReadError(`row ${counted(this.row)}: ${what}`);
  }
}
