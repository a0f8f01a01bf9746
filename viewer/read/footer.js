/**
 * The end of a Parquet file, skimmed: where each row group's description lies, and what it says of its values.
 *
 * A file of 25 million rows has 4,050 row groups and a footer of 3 MB. Making objects of all of it takes 300 ms, longer
 * than reading one heatmap; so only what is needed of it is read here, and one group's description is handed to
 * hyparquet as the footer of a file with that one group.
 */
import { ReadError } from "./errors.js";

const LENGTH_AND_MAGIC = 8;
const DEEPEST = 12; // levels of the format, with some to spare
const TRUE = 1,
  FALSE = 2,
  BYTE = 3,
  DOUBLE = 7,
  BINARY = 8,
  LIST = 9,
  STRUCT = 12;
const DAMAGED = "has a damaged Parquet footer; copy or write it again";

/**
 * @typedef {object} Group
 * @property {number} start  of its description, in the footer's bytes
 * @property {number} end
 * @property {number} rows
 * @property {{min: Uint8Array|null, max: Uint8Array|null}[]} columns  the statistics of each, as stored
 */

/**
 * @param {Blob} blob
 * @returns {Promise<{bytes: Uint8Array, head: number, groups: Group[], texts: Map<string, string>}>} the footer, how much
 *   of it stands before the groups, and the texts that its writer added by key
 */
export async function readFooter(blob) {
  const tail = new Uint8Array(await blob.slice(-(1 << 16)).arrayBuffer());
  const begin = new Uint8Array(await blob.slice(0, 4).arrayBuffer());
  if (!isMagic(begin))
    throw new ReadError(blob.size === 0 ? "is empty" : "is not a Parquet file: it does not begin with PAR1");
  if (blob.size < 12 || !isMagic(tail.subarray(-4)))
    throw new ReadError("has no Parquet footer, so it was cut short; copy or write it again");
  const length = new DataView(tail.buffer).getUint32(tail.length - LENGTH_AND_MAGIC, true);
  if (length > blob.size - LENGTH_AND_MAGIC) throw new ReadError(DAMAGED);
  const whole =
    length + LENGTH_AND_MAGIC <= tail.length
      ? tail.subarray(tail.length - LENGTH_AND_MAGIC - length, tail.length - LENGTH_AND_MAGIC)
      : new Uint8Array(
          await blob.slice(blob.size - LENGTH_AND_MAGIC - length, blob.size - LENGTH_AND_MAGIC).arrayBuffer(),
        );
  return { bytes: whole, ...skim(whole) };
}

function isMagic(bytes) {
  return String.fromCharCode(...bytes) === "PAR1";
}

function skim(bytes) {
  const thrift = new Thrift(bytes);
  const groups = [];
  const texts = new Map();
  let head = -1;
  thrift.struct((id, type) => {
    if (type !== LIST || (id !== 4 && id !== 5)) return false;
    if (id === 4) head = thrift.at;
    thrift.list(() => (id === 4 ? groups.push(group(thrift)) : texts.set(...keyAndValue(thrift))));
    return true;
  });
  if (head < 0) throw new ReadError(DAMAGED);
  return { head, groups, texts };
}

function keyAndValue(thrift) {
  const pair = ["", ""];
  thrift.struct((id, type) => {
    if (type !== BINARY || (id !== 1 && id !== 2)) return false;
    pair[id - 1] = new TextDecoder().decode(thrift.binary());
    return true;
  });
  return pair;
}

function group(thrift) {
  const found = { start: thrift.at, end: 0, rows: 0, columns: [] };
  thrift.struct((id, type) => {
    if (id === 1 && type === LIST) thrift.list(() => found.columns.push(statistics(thrift)));
    else if (id === 3) found.rows = thrift.zigzag();
    else return false;
    return true;
  });
  found.end = thrift.at;
  return found;
}

/** The least and the greatest value of the column chunk that begins here. */
function statistics(thrift) {
  const found = { min: null, max: null };
  thrift.struct(
    (id, type) =>
      id === 3 &&
      type === STRUCT &&
      thrift.struct(
        (inner, kind) =>
          inner === 12 &&
          kind === STRUCT &&
          thrift.struct((field, last) => {
            if (last !== BINARY || (field !== 5 && field !== 6)) return false;
            found[field === 5 ? "max" : "min"] = thrift.binary();
            return true;
          }),
      ),
  );
  return found;
}

/** The footer of a file that has this one row group. @returns {ArrayBuffer} with length and magic behind it */
export function footerOf({ bytes, head }, { start, end }) {
  const description = end - start;
  const length = head + 1 + description + 1; // one byte begins the list, a zero one ends the structure
  const footer = new Uint8Array(length + LENGTH_AND_MAGIC);
  footer.set(bytes.subarray(0, head));
  footer[head] = (1 << 4) | STRUCT; // a list of one structure
  footer.set(bytes.subarray(start, end), head + 1);
  new DataView(footer.buffer).setUint32(length, length, true);
  footer.set([80, 65, 82, 49], length + 4);
  return footer.buffer;
}

/** Reads Thrift's compact protocol; structures and lists are walked by callbacks, and skipped where those return false. */
class Thrift {
  at = 0;
  #depth = 0;

  constructor(bytes) {
    this.bytes = bytes;
  }

  byte() {
    if (this.at >= this.bytes.length) throw new ReadError(DAMAGED);
    return this.bytes[this.at++];
  }

  varint() {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }

  zigzag() {
    const value = this.varint();
    return value % 2 ? -(value + 1) / 2 : value / 2;
  }

  binary() {
    const length = this.varint();
    this.at += length;
    if (this.at > this.bytes.length) throw new ReadError(DAMAGED);
    return this.bytes.subarray(this.at - length, this.at);
  }

  /** Give `take` the id and type of each field; where it returns false the field is skipped. Returns true. */
  struct(take) {
    if (++this.#depth > DEEPEST) throw new ReadError(DAMAGED);
    for (let id = 0, head = this.byte(); head !== 0; head = this.byte()) {
      id = head >> 4 ? id + (head >> 4) : this.zigzag();
      if (!take(id, head & 15)) this.skip(head & 15);
    }
    this.#depth--;
    return true;
  }

  list(take) {
    const head = this.byte();
    const length = head >> 4 === 15 ? this.varint() : head >> 4;
    for (let index = 0; index < length; index++) take(head & 15);
  }

  skip(type) {
    if (type === TRUE || type === FALSE) return; // the type is the value
    if (type === BYTE) this.at++;
    else if (type === DOUBLE) this.at += 8;
    else if (type === BINARY) this.binary();
    else if (type === LIST || type === LIST + 1)
      this.list((kind) => this.skip(kind === TRUE || kind === FALSE ? BYTE : kind));
    else if (type === STRUCT) this.struct(() => false);
    else if (type > BYTE && type < DOUBLE) this.varint();
    else throw new ReadError(DAMAGED);
  }
}
