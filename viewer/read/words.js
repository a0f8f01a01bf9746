/** Text columns: each different text once, found again by its bytes, so that no row's text is decoded twice. */
import { ReadError, quoted } from "./errors.js";

/** Keeps a byte-order mark, which can be a token, and refuses what is not UTF-8. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function decoded(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new ReadError(
      `is not UTF-8 (bytes ${Array.from(bytes.subarray(0, 12), (byte) => byte.toString(16)).join(" ")})`,
    );
  }
}

/** Texts by number; two spellings of one text (quoted or not, escaped or not) share theirs. */
export class Words {
  texts = [];
  #numbers = new Map();

  number(text) {
    let number = this.#numbers.get(text);
    if (number === undefined) {
      number = this.texts.push(text) - 1;
      this.#numbers.set(text, number);
    }
    return number;
  }
}

/** A hash table from the bytes that stand in a file to numbers of `words`; `toText` reads one spelling. */
export class Spellings {
  #slots = new Int32Array(1024); // 1 + index of an entry; 0: free
  #bytes = new Uint8Array(4096); // the spellings, one behind the other
  #ends = [0]; // entry i stands in #bytes from #ends[i] to #ends[i + 1]
  #hashes = [];
  #numbers = [];

  constructor(words, toText) {
    this.words = words;
    this.toText = toText;
  }

  /** The number of the text spelled by bytes[start, end). */
  number(bytes, start, end) {
    let hash = 0;
    for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + bytes[at]) | 0;
    hash ^= hash >>> 15;
    const mask = this.#slots.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const entry = this.#slots[slot] - 1;
      if (entry < 0) return this.#add(bytes.subarray(start, end), hash);
      if (this.#hashes[entry] === hash && this.#same(entry, bytes, start, end)) return this.#numbers[entry];
    }
  }

  #same(entry, bytes, start, end) {
    const own = this.#ends[entry];
    if (this.#ends[entry + 1] - own !== end - start) return false;
    for (let at = start; at < end; at++) if (this.#bytes[own + at - start] !== bytes[at]) return false;
    return true;
  }

  #add(spelling, hash) {
    const number = this.words.number(this.toText(spelling));
    const start = this.#ends.at(-1);
    if (start + spelling.length > this.#bytes.length) {
      const larger = new Uint8Array(2 * (start + spelling.length));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes.set(spelling, start);
    this.#ends.push(start + spelling.length);
    this.#hashes.push(hash);
    this.#numbers.push(number);
    if (2 * this.#hashes.length > this.#slots.length) {
      this.#slots = new Int32Array(4 * this.#slots.length);
      this.#hashes.forEach((_, entry) => this.#place(entry));
    } else {
      this.#place(this.#hashes.length - 1);
    }
    return number;
  }

  #place(entry) {
    const mask = this.#slots.length - 1;
    let slot = this.#hashes[entry] & mask;
    while (this.#slots[slot] !== 0) slot = (slot + 1) & mask;
    this.#slots[slot] = entry + 1;
  }
}

const VARIANT = /^(?:Full|Attn|Head_(?:0|[1-9][0-9]{0,4}))$/;

/** The text if it names a variant; raises ReadError otherwise. */
export function variantName(text) {
  if (!VARIANT.test(text))
    throw new ReadError(`is ${quoted(text)}, where a result has Full, Attn or Head_0, Head_1, …`);
  return text;
}

/** Where a variant stands among others: Full, Attn, then the heads by number. */
export function variantOrder(name) {
  return name === "Full" ? -2 : name === "Attn" ? -1 : Number(name.slice("Head_".length));
}
