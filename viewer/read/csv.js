/** CSV as this tool and pandas write it: quotes where needed, any column order, further columns, CRLF or LF. */
import { ReadError, counted, quoted } from "./errors.js";
import { IMAGE, NAMES, UNIT, columnFault, fieldOf, hasUnits, isText, mayBeEmpty, noResult } from "./fields.js";
import { Rows } from "./rows.js";
import { Slices } from "./slices.js";
import { decoded } from "./words.js";

const COMMA = 44,
  QUOTE = 34,
  LINE_FEED = 10,
  RETURN = 13;
const LONGEST_HEADER = 1 << 20;
const ENDS_FIELD = /[\w"]/; // not a comma, a point or a sign: more should come
const EMPTY = /^\s*(?:nan|na|null)?\s*$/i; // pandas writes an undefined distance as nothing

/**
 * @param {Blob} blob
 * @param {{float64?: boolean, anyDigits?: boolean, size?: number, signal?: AbortSignal, onProgress?: Function}} [options]
 *   `anyDigits`: round what float32 does not hold, instead of raising NeedsFloat64
 * @returns {Promise<import("./result.js").Table>}
 */
export async function readCsv(blob, options = {}) {
  const slices = new Slices(blob, options);
  const header = await readHeader(slices);
  const fault = columnFault(header.names);
  if (fault) throw new ReadError(otherKind(slices.bytes.subarray(0, header.end)) ?? fault);
  const rows = new CsvRows(header.names, header.crlf, options);
  let start = rows.readAll(slices.bytes, header.end, slices.limit);
  while (await slices.more(start)) start = rows.readAll(slices.bytes, 0, slices.limit);
  const unended = rows.readLast(slices.bytes, start, slices.limit);
  const table = rows.builder.finish();
  const blocks = (table.parts ?? [table]).flatMap((part) => part.blocks.flat());
  if (unended && blocks.some(({ absent }) => absent)) throw new ReadError(cutShort(table.rows));
  return { ...table, unended };
}

function cutShort(row) {
  return `ends within row ${counted(row)}, so it was cut short; copy or write it again`;
}

/** The header's names, where it ends, and whether its line ends in CRLF. */
async function readHeader(slices) {
  for (;;) {
    const more = await slices.more(0);
    const start = slices.bytes[0] === 0xef && slices.bytes[1] === 0xbb && slices.bytes[2] === 0xbf ? 3 : 0;
    const header = headerFields(slices.bytes, start, slices.limit);
    if (header) return header;
    if (more && slices.limit < LONGEST_HEADER) continue;
    if (slices.limit === start) throw new ReadError("is empty");
    const begun = String.fromCharCode(...slices.bytes.subarray(start, Math.min(slices.limit, 60)));
    const kind = otherKind(slices.bytes.subarray(0, slices.limit));
    if (kind) throw new ReadError(kind);
    throw new ReadError(`is not a table: it begins with ${quoted(begun)} and has no second line`);
  }
}

function headerFields(bytes, start, limit) {
  const names = [];
  for (let at = start; ;) {
    const end = fieldEnd(bytes, at, limit);
    if (end >= limit) return null;
    const last = bytes[end] === LINE_FEED;
    const crlf = last && end > start && bytes[end - 1] === RETURN;
    names.push(headerName(bytes.subarray(at, crlf ? end - 1 : end)));
    if (last) return { names, end: end + 1, crlf };
    at = end + 1;
  }
}

/** What a file is that begins like this and is no CSV, or null. */
function otherKind(bytes) {
  const first = Array.from(bytes.subarray(0, 4), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  if (first.startsWith("ff fe") || first.startsWith("fe ff"))
    return "is UTF-16 text, where a CSV is UTF-8; save it as UTF-8";
  if (!isPlainText(bytes)) return noResult(`no text but a binary file (its first bytes are ${first})`);
  const names = decoded(bytes)
    .replace(/^\ufeff/, "")
    .trim()
    .split(/[;\t]/)
    .map((name) => name.replace(/^"(.*)"$/, "$1"));
  return columnFault(names)
    ? null
    : "separates its columns by semicolons or tabs; save it with commas, as pandas' to_csv does by itself";
}

/** No control characters but white space, and UTF-8? */
function isPlainText(bytes) {
  try {
    return !/[\0-\x08\x0e-\x1f]/.test(decoded(bytes));
  } catch {
    return false;
  }
}

/** A column's name; one that is no text is none of ours. */
function headerName(bytes) {
  try {
    return fieldText(bytes);
  } catch {
    return "?";
  }
}

/** Where the field that begins at `at` ends: at its comma or line feed, or at `limit` if neither comes. */
function fieldEnd(bytes, at, limit) {
  if (bytes[at] === QUOTE) {
    at++;
    while (at < limit && (bytes[at] !== QUOTE || bytes[at + 1] === QUOTE)) at += bytes[at] === QUOTE ? 2 : 1;
    at++;
  }
  while (at < limit && bytes[at] !== COMMA && bytes[at] !== LINE_FEED) at++;
  return at < limit ? at : limit;
}

/** A field as text: without its quotes, and those inside once. */
function fieldText(bytes) {
  const text = decoded(bytes);
  if (!text.startsWith('"')) return text;
  if (!/^"(?:[^"]|"")*"$/.test(text))
    throw new ReadError(`is ${quoted(text)}: something stands behind the closing quote`);
  return text.slice(1, -1).replaceAll('""', '"');
}

/** Reads whole rows out of a window. */
class CsvRows extends Rows {
  constructor(names, crlf, options) {
    super(options, fieldText);
    this.build(hasUnits(names));
    this.fields = names.map(fieldOf).map((field) => (field >= UNIT && !this.ofUnits ? -1 : field));
    this.placed = this.fields.includes(IMAGE);
    this.crlf = crlf;
  }

  /** @returns {number} where the first row begins that is not whole yet */
  readAll(bytes, start, limit) {
    let at = start;
    for (let next = at; next >= 0; next = this.readRow(bytes, at, limit)) at = next;
    return at;
  }

  /** Read the row that begins at `at`; returns where the next one begins, -1 if this one is not whole yet. */
  readRow(bytes, at, limit) {
    const { fields, numbers, values } = this;
    if (bytes[at] === LINE_FEED) return at + 1;
    for (let column = 0; column < fields.length; column++) {
      const field = fields[column];
      let end;
      if (field < 0 || isText(field)) {
        end = fieldEnd(bytes, at, limit);
        if (end >= limit) return -1;
        if (field >= 0) values[field] = this.spellings[field].number(bytes, at, this.contentEnd(bytes, end));
      } else {
        values[field] = numbers.read(bytes, at);
        end = numbers.end;
        if (bytes[end] === RETURN && this.crlf) end++;
        const ends = bytes[end] === COMMA || bytes[end] === LINE_FEED;
        if (!ends || (end === at && !mayBeEmpty(field))) {
          end = fieldEnd(bytes, at, limit);
          if (end >= limit) return -1;
          values[field] = this.oddNumber(field, bytes.subarray(at, this.contentEnd(bytes, end)));
        }
      }
      if ((bytes[end] === COMMA) !== column < fields.length - 1) this.wrongCount(bytes, at, end, limit, column);
      at = end + 1;
    }
    this.take();
    return at;
  }

  contentEnd(bytes, end) {
    return this.crlf && bytes[end] === LINE_FEED && bytes[end - 1] === RETURN ? end - 1 : end;
  }

  /** A number that is empty, quoted, in another form, or none. */
  oddNumber(field, bytes) {
    const text = this.located(NAMES[field], () => fieldText(bytes));
    if (EMPTY.test(text)) return mayBeEmpty(field) ? NaN : this.fault(`${NAMES[field]} is empty`);
    const value = Number(text);
    if (Number.isNaN(value)) this.fault(`${NAMES[field]} is ${quoted(text)}, where a number belongs`);
    const plain = new TextEncoder().encode(`${text.trim()},\0`);
    this.numbers.read(plain, 0);
    return value;
  }

  wrongCount(bytes, at, end, limit, column) {
    let found = column + 1;
    for (; end < limit && bytes[end] === COMMA; found++) end = fieldEnd(bytes, end + 1, limit);
    this.fault(`has ${found} fields, where the header has ${this.fields.length}`);
  }

  /**
   * Read what stands behind the last line end: white space, or one more row with all its fields.
   * @returns {boolean} whether there is such a row: a number at its end may have lost digits
   */
  readLast(bytes, start, limit) {
    const rest = bytes.subarray(start, limit);
    if (rest.every((byte) => byte <= 32)) return false;
    const { row } = this;
    bytes[limit] = LINE_FEED; // where Slices keeps a 0
    try {
      if (!ENDS_FIELD.test(String.fromCharCode(rest.at(-1))) || this.readRow(bytes, start, limit + 1) < 0)
        throw new ReadError();
    } catch (error) {
      throw error instanceof ReadError ? new ReadError(cutShort(row)) : error;
    }
    return true;
  }
}
