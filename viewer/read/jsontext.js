/** Places in the bytes of JSON text, and a cursor that walks a file's structure slice by slice. */
import { ReadError, quoted } from "./errors.js";
import { decoded } from "./words.js";

export const QUOTE = 34,
  COMMA = 44,
  COLON = 58,
  OPEN_LIST = 91,
  BACKSLASH = 92,
  CLOSE_LIST = 93,
  OPEN = 123,
  CLOSE = 125;

/** The first byte from `at` on that is no white space; `limit` if there is none. */
export function behindSpace(bytes, at, limit) {
  while (at < limit && bytes[at] <= 32) at++;
  return at;
}

/** Behind the string whose quote is at `at`; -1 if it is not whole. */
export function stringEnd(bytes, at, limit) {
  for (at++; at < limit; at++) {
    if (bytes[at] === QUOTE) return at + 1;
    if (bytes[at] === BACKSLASH) at++;
  }
  return -1;
}

/** Whether a bare word or a number ends before this byte. */
export function endsValue(byte) {
  return byte <= 32 || byte === COMMA || byte === CLOSE || byte === CLOSE_LIST;
}

/** Behind the `null`, `NaN` or other bare word at `at`. */
export function wordEnd(bytes, at, limit) {
  while (at < limit && !endsValue(bytes[at])) at++;
  return at;
}

/** What a string spells, given without its quotes. Raises ReadError if it is no JSON string. */
export function stringText(bytes) {
  const text = decoded(bytes);
  try {
    return JSON.parse(`"${text}"`);
  } catch {
    throw new ReadError(`is ${quoted(text)}, which is no JSON text`);
  }
}

/** Finds the end of any value, over as many windows as it takes. */
export class Skip {
  depth = 0;
  inString = false;
  escaped = false;

  /** Behind the value, or -1 if it goes on in the next window, which is then to be given from its start. */
  end(bytes, at, limit) {
    for (; at < limit; at++) {
      const byte = bytes[at];
      if (this.inString) {
        if (this.escaped) this.escaped = false;
        else if (byte === BACKSLASH) this.escaped = true;
        else if (byte === QUOTE) this.inString = false;
        if (!this.inString && this.depth === 0) return at + 1;
      } else if (byte === QUOTE) this.inString = true;
      else if (byte === OPEN || byte === OPEN_LIST) this.depth++;
      else if (byte === CLOSE || byte === CLOSE_LIST) {
        if (this.depth === 0) return at; // a bare word before it
        if (--this.depth === 0) return at + 1;
      } else if (byte === COMMA && this.depth === 0) return at;
    }
    return -1;
  }
}

/** A place in a file's JSON text. */
export class Cursor {
  at = 0;

  /** @param {import("./slices.js").Slices} slices */
  constructor(slices) {
    this.slices = slices;
  }

  /** @returns {Promise<boolean>} whether there was more */
  async refill(keptFrom = this.at) {
    if (!(await this.slices.more(keptFrom))) return false;
    this.at -= keptFrom;
    return true;
  }

  /** Pass over the byte-order mark that begins here. */
  async passMark() {
    while (this.slices.limit < this.at + 3 && (await this.refill()));
    this.at += 3;
  }

  /** The next byte that is no white space, not taken yet; 0 at the end of the file. */
  async peek() {
    for (;;) {
      this.at = behindSpace(this.slices.bytes, this.at, this.slices.limit);
      if (this.at < this.slices.limit) return this.slices.bytes[this.at];
      if (!(await this.refill())) return 0;
    }
  }

  /** Take one of these bytes and return it. */
  async take(...expected) {
    const byte = await this.peek();
    if (!expected.includes(byte))
      await this.fault(`where ${expected.map((one) => String.fromCharCode(one)).join(" or ")} belongs`);
    this.at++;
    return byte;
  }

  /** @returns {Promise<string>} the string that begins here */
  async string() {
    if ((await this.peek()) !== QUOTE) await this.fault("where a name in quotes belongs");
    for (;;) {
      const { bytes, limit } = this.slices;
      const end = stringEnd(bytes, this.at, limit);
      if (end >= 0) {
        const text = stringText(bytes.subarray(this.at + 1, end - 1));
        this.at = end;
        return text;
      }
      if (!(await this.refill())) await this.fault();
    }
  }

  /** Pass over the value that begins here. */
  async skip() {
    await this.peek();
    const skip = new Skip();
    for (;;) {
      const end = skip.end(this.slices.bytes, this.at, this.slices.limit);
      if (end >= 0) {
        this.at = end;
        return;
      }
      this.at = this.slices.limit;
      if (!(await this.refill())) await this.fault();
    }
  }

  /** @param {string} [expected]  without it, what begins here does not end  @returns {Promise<never>} */
  async fault(expected) {
    if (expected === undefined || (await this.peek()) === 0)
      throw new ReadError("ends before its last bracket, so it was cut short; copy or write it again");
    throw new ReadError(`is not JSON of a table: it has ${await this.quote()} ${expected}`);
  }

  /** What begins here, for a message. */
  async quote() {
    await this.peek();
    const { bytes, limit } = this.slices;
    return quoted(String.fromCharCode(...bytes.subarray(this.at, Math.min(limit, this.at + 20))));
  }
}
