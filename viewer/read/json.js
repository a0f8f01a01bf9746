/** JSON tables: one object of columns as this tool writes it (lists, or objects by index as pandas does), or a list of records. */
import { NeedsFloat64, ReadError, counted, quoted } from "./errors.js";
import {
  COL,
  COSINE,
  IMAGE,
  L2,
  INTERACTION,
  NAMES,
  POSITIONS,
  REQUIRED,
  UNIT,
  columnFault,
  fieldOf,
  isDistance,
  isText,
  mayBeEmpty,
  noResult,
  wholeFault,
} from "./fields.js";
import {
  CLOSE,
  CLOSE_LIST,
  COLON,
  COMMA,
  Cursor,
  OPEN,
  OPEN_LIST,
  QUOTE,
  Skip,
  behindSpace,
  endsValue,
  stringEnd,
  stringText,
  wordEnd,
} from "./jsontext.js";
import { Rows } from "./rows.js";
import { Slices } from "./slices.js";
import { decoded } from "./words.js";

const LINE_FEED = 10;
const FIRST_ROOM = 1 << 16;
const WHOLE_LIMIT = 2 ** 31; // what an Int32Array holds; the table's own limits are lower
const ALL_REQUIRED = (1 << REQUIRED) - 1;
const OF_UNITS = (1 << UNIT) | (1 << POSITIONS);
const MOST_NAMES = 100; // remembered
const LINES =
  "is JSON Lines, a record on each line, where one object of columns or one list of records is read; pandas writes that: pd.read_json(path, lines=True).to_json(other_path)";
const KINDS = { [QUOTE]: "texts", [OPEN_LIST]: "lists" }; // by the first byte
const OBJECT = "a JSON object";
const RUN_FILE = "a run file without the ending _run.json: a JSON object";

/**
 * @param {Blob} blob
 * @param {object} [options]  those of readCsv
 * @returns {Promise<import("./result.js").Table>}
 */
export async function readJson(blob, options = {}) {
  const cursor = new Cursor(new Slices(blob, options));
  const first = await cursor.peek();
  if (first === 0) throw new ReadError("is empty");
  if (first === 0xef) await cursor.passMark();
  const begun = await cursor.peek();
  if (begun !== OPEN && begun !== OPEN_LIST)
    throw new ReadError(noResult(`no JSON table: it begins with ${await cursor.quote()}`));
  if (begun === OPEN && isJsonLines(cursor)) throw new ReadError(LINES);
  return (await cursor.take(OPEN, OPEN_LIST)) === OPEN ? readColumns(cursor, options) : readRecords(cursor, options);
}

/** Is the first line an object by itself, with another behind it? */
function isJsonLines({ at, slices: { bytes, limit } }) {
  const end = bytes.indexOf(LINE_FEED, at);
  if (end < 0 || behindSpace(bytes, end, limit) >= limit || bytes[behindSpace(bytes, end, limit)] !== OPEN)
    return false;
  try {
    JSON.parse(decoded(bytes.subarray(at, end)));
    return true;
  } catch {
    return false;
  }
}

async function readColumns(cursor, options) {
  const columns = new JsonColumns(options);
  const names = [];
  if ((await cursor.peek()) === CLOSE) throw new ReadError(columnFault([], OBJECT));
  do {
    names.push(await cursor.string());
    await cursor.take(COLON);
    const field = fieldOf(names.at(-1));
    if (field < 0) await cursor.skip();
    else await columns.read(cursor, field);
  } while ((await cursor.take(COMMA, CLOSE)) === COMMA);
  const fault = columnFault(names, names.includes("schema_version") ? RUN_FILE : OBJECT);
  if (fault) throw new ReadError(fault);
  return columns.table();
}

/** What the two forms share: texts and numbers at a place; `end` is then the place behind them, -1 if they are not whole. */
class JsonRows extends Rows {
  end = 0;

  constructor(options) {
    super(options, stringText);
  }

  /** @returns {number} the number by which the text is known */
  textAt(field, bytes, at, limit) {
    if (bytes[at] !== QUOTE) return this.wordAt(field, bytes, at, limit);
    this.end = stringEnd(bytes, at, limit);
    return this.end < 0 ? NaN : this.spellings[field].number(bytes, at + 1, this.end - 1);
  }

  numberAt(field, bytes, at, limit) {
    const value = this.numbers.read(bytes, at);
    this.end = this.numbers.end;
    if (this.end === at || !endsValue(bytes[this.end])) return this.wordAt(field, bytes, at, limit);
    if (!isDistance(field)) {
      const fault = wholeFault(field, value, WHOLE_LIMIT);
      if (fault) this.fault(fault);
    }
    return value;
  }

  /** NaN of a `null` where a field may be empty; everything else is a fault. */
  wordAt(field, bytes, at, limit) {
    const string = bytes[at] === QUOTE;
    this.end = string ? stringEnd(bytes, at, limit) : wordEnd(bytes, at, limit);
    if (this.end < 0 || this.end >= limit) {
      this.end = -1;
      return NaN;
    }
    if (field === UNIT || field === POSITIONS) return this.spellings[field].number(bytes, at, this.end); // of others' columns
    const word = String.fromCharCode(...bytes.subarray(at, Math.min(this.end, at + 50)));
    if ((word === "null" || word === "NaN") && mayBeEmpty(field)) return NaN;
    return this.fault(
      `${NAMES[field]} is ${string ? word : quoted(word)}, where a ${isText(field) ? "text" : "number"} belongs`,
    );
  }
}

/** Reads column by column, and joins them at the end. */
class JsonColumns extends JsonRows {
  columns = [];
  length = 0; // of the column at hand
  joining = false;

  get row() {
    return this.joining ? super.row : this.length + 1;
  }

  /** Read the column that begins at the cursor: a list, or an object of values by index. */
  async read(cursor, field) {
    if (this.columns[field]) throw new ReadError(`has the column ${NAMES[field]} twice`);
    if (![OPEN_LIST, OPEN, 0].includes(await cursor.peek())) {
      throw new ReadError(
        `is JSON, but no table: ${NAMES[field]} is ${await cursor.quote()}, where the list of its values belongs`,
      );
    }
    this.keyed = (await cursor.take(OPEN_LIST, OPEN)) === OPEN;
    this.close = this.keyed ? CLOSE : CLOSE_LIST;
    const Kind = !isDistance(field) ? Int32Array : this.float64 ? Float64Array : Float32Array;
    this.values = new Kind(this.columns.find(Boolean)?.length ?? FIRST_ROOM);
    this.length = 0;
    if ((await cursor.peek()) === this.close) cursor.at++;
    else await this.fill(cursor, field);
    this.columns[field] = this.values.subarray(0, this.length);
  }

  async fill(cursor, field) {
    for (;;) {
      const { bytes, limit } = cursor.slices;
      const done = this.fillFrom(bytes, cursor.at, limit, field);
      cursor.at = this.next;
      if (this.widenable && this.numbers.wide) throw new NeedsFloat64();
      if (done) return;
      if (!(await cursor.refill())) {
        throw new ReadError(
          `ends within column ${NAMES[field]}, at row ${counted(this.row)}, so it was cut short; copy or write it again`,
        );
      }
    }
  }

  /** Take the values that are whole in this window; `next` is where the rest begins. Returns whether the list has ended. */
  fillFrom(bytes, start, limit, field) {
    for (let at = start; ; at++) {
      if (!this.keyed) at = this.fillPlain(bytes, at, limit, field);
      this.next = at;
      at = this.keyed ? behindKey(bytes, at, limit) : behindSpace(bytes, at, limit);
      if (at < 0 || at >= limit) return false;
      const value = isText(field) ? this.textAt(field, bytes, at, limit) : this.numberAt(field, bytes, at, limit);
      if (this.end < 0) return false;
      at = behindSpace(bytes, this.end, limit);
      if (at >= limit) return false;
      if (this.length === this.values.length) this.grow();
      this.values[this.length++] = field >= IMAGE && field <= COL && value !== value ? -1 : value;
      if (bytes[at] === this.close) {
        this.next = at + 1;
        return true;
      }
      if (bytes[at] !== COMMA)
        this.fault(`${quoted(String.fromCharCode(bytes[at]))} stands behind ${NAMES[field]}, where a comma belongs`);
    }
  }

  /** Take plain values, each with its comma, for speed in a loop of its own for each kind; returns where another begins. */
  fillPlain(bytes, at, limit, field) {
    for (;;) {
      const before = this.length;
      if (isText(field)) at = plainTexts(bytes, at, limit, this.spellings[field], this);
      else if (this.values instanceof Int32Array) at = plainWholes(bytes, at, this);
      else at = plainNumbers(bytes, at, this.numbers, this);
      if (this.length < this.values.length || this.length === before) return at;
      this.grow();
    }
  }

  grow() {
    const larger = new this.values.constructor(2 * this.length + 1);
    larger.set(this.values);
    this.values = larger;
  }

  /** The rows of the columns read. */
  table() {
    const { columns } = this;
    const length = columns[0].length;
    const other = columns.findIndex((column) => column && column.length !== length);
    if (other >= 0)
      throw new ReadError(
        `has ${counted(columns[other].length)} values in ${NAMES[other]}, but ${counted(length)} in ${NAMES[0]}`,
      );
    if (columns[UNIT] && columns[POSITIONS]) return this.unitTable(length);
    const [steps, layers, positions, tokens, variants, l2, cosine, images, rows, cols] = columns;
    this.joining = true;
    for (let row = 0; row < length; row++) {
      const isNew = this.builder.add(
        steps[row],
        layers[row],
        positions[row],
        tokens[row],
        variants[row],
        l2[row],
        cosine[row],
      );
      if (isNew && images && rows && cols) this.builder.place(positions[row], images[row], rows[row], cols[row]);
    }
    return this.builder.finish();
  }

  unitTable(length) {
    const { columns } = this;
    this.build(true);
    this.joining = true;
    this.placed = Boolean(columns[IMAGE]);
    this.values = new Float64Array(NAMES.length).fill(NaN);
    for (let row = 0; row < length; row++) {
      for (let field = 0; field < columns.length; field++) if (columns[field]) this.values[field] = columns[field][row];
      this.take();
    }
    return this.builder.finish();
  }
}

// Each of these reads `"text",` or `12,` or `0.5,` into `column.values` until something else comes, or its room is full.

function plainTexts(bytes, at, limit, spellings, column) {
  const { values } = column;
  let { length } = column;
  while (length < values.length && bytes[at] === QUOTE) {
    const end = stringEnd(bytes, at, limit);
    if (end < 0 || bytes[end] !== COMMA) break;
    values[length++] = spellings.number(bytes, at + 1, end - 1);
    at = end + 1;
  }
  column.length = length;
  return at;
}

function plainWholes(bytes, at, column) {
  const { values } = column;
  let { length } = column;
  while (length < values.length) {
    let end = at;
    let value = 0;
    for (let digit = bytes[end] - 48; digit >= 0 && digit <= 9; digit = bytes[++end] - 48) value = value * 10 + digit;
    if (end === at || bytes[end] !== COMMA || end > at + 9) break;
    values[length++] = value;
    at = end + 1;
  }
  column.length = length;
  return at;
}

function plainNumbers(bytes, at, numbers, column) {
  const { values } = column;
  let { length } = column;
  while (length < values.length) {
    const value = numbers.read(bytes, at);
    if (numbers.end === at || bytes[numbers.end] !== COMMA) break;
    values[length++] = value;
    at = numbers.end + 1;
  }
  column.length = length;
  return at;
}

/** Behind the `"index":` at `at`; -1 if it is not whole. */
function behindKey(bytes, at, limit) {
  at = behindSpace(bytes, at, limit);
  if (at < limit && bytes[at] !== QUOTE) throw new ReadError("has a value without its index");
  const end = stringEnd(bytes, at, limit);
  if (end < 0) return -1;
  at = behindSpace(bytes, end, limit);
  return at < limit ? behindSpace(bytes, at + 1, limit) : -1;
}

async function readRecords(cursor, options) {
  const rows = new JsonRecords(options);
  if ((await cursor.peek()) === CLOSE_LIST) throw new ReadError("has no rows");
  while (!rows.readAll(cursor.slices.bytes, cursor.at, cursor.slices.limit)) {
    if (!(await cursor.refill(rows.next))) {
      throw new ReadError(`ends within row ${counted(rows.row)}, so it was cut short; copy or write it again`);
    }
    cursor.at = 0;
  }
  return rows.builder.finish();
}

/** Reads whole records out of a window. */
class JsonRecords extends JsonRows {
  placed = true;
  members = []; // of the first record, in order: { name: its bytes, field }

  /** Take the records that are whole in this window; `next` is where the rest begins. Returns whether the list has ended. */
  readAll(bytes, start, limit) {
    for (let at = start; ; at++) {
      this.next = at;
      at = behindSpace(bytes, at, limit);
      if (at >= limit) return false;
      if (bytes[at] !== OPEN && this.row === 1)
        throw new ReadError(noResult(`a JSON list of ${KINDS[bytes[at]] ?? "numbers or words"}`));
      if (bytes[at] !== OPEN) this.fault(`is no record: it begins with ${quoted(String.fromCharCode(bytes[at]))}`);
      at = this.readRecord(bytes, at + 1, limit);
      if (at < 0) return false;
      at = behindSpace(bytes, at, limit);
      if (at >= limit) return false; // its comma may be missing
      this.take();
      if (bytes[at] === CLOSE_LIST) return true;
      if (bytes[at] !== COMMA)
        this.fault(`${quoted(String.fromCharCode(bytes[at]))} stands before it, where a comma belongs`);
    }
  }

  /** Fill `values` from the members that begin at `at`; returns the place behind the record, -1 if it is not whole. */
  readRecord(bytes, at, limit) {
    let seen = 0; // a bit for each field
    this.values.fill(NaN);
    for (let index = 0; ; index++) {
      at = behindSpace(bytes, at, limit);
      if (bytes[at] === CLOSE && at < limit) break;
      const nameEnd = at < limit && bytes[at] === QUOTE ? stringEnd(bytes, at, limit) : this.noMember(bytes, at, limit);
      if (nameEnd < 0) return -1;
      const field = this.fieldAt(index, bytes, at + 1, nameEnd - 1);
      at = behindSpace(bytes, nameEnd, limit);
      at = this.readMember(field, bytes, behindSpace(bytes, at + 1, limit), limit);
      if (at < 0 || at >= limit) return -1;
      if (field >= 0) seen |= 1 << field;
      if (bytes[at] === COMMA) at++;
      else if (bytes[at] !== CLOSE) this.noMember(bytes, at, limit);
    }
    if ((seen & ALL_REQUIRED) !== ALL_REQUIRED) this.missing(seen);
    if (this.row === 1) this.build((seen & OF_UNITS) === OF_UNITS);
    return at + 1;
  }

  /** Read one value; returns the place of what stands behind it. */
  readMember(field, bytes, at, limit) {
    if (at >= limit) return -1;
    if (field < 0) this.end = new Skip().end(bytes, at, limit);
    else
      this.values[field] = isText(field)
        ? this.textAt(field, bytes, at, limit)
        : this.numberAt(field, bytes, at, limit);
    return this.end < 0 ? -1 : behindSpace(bytes, this.end, limit);
  }

  /** The field of a name, mostly that of the same place in the first record. */
  fieldAt(index, bytes, start, end) {
    const likely = this.members[index];
    if (likely !== undefined && sameBytes(likely.name, bytes, start, end)) return likely.field;
    let member = this.members.find((other) => sameBytes(other.name, bytes, start, end));
    if (member === undefined) {
      const name = bytes.slice(start, end);
      member = { name, field: this.located("a column's name", () => fieldOf(stringText(name))) };
      if (this.members.length < MOST_NAMES) this.members.push(member);
    }
    return member.field;
  }

  noMember(bytes, at, limit) {
    if (at >= limit) return -1;
    return this.fault(
      `is no whole record: it has ${quoted(String.fromCharCode(...bytes.subarray(at, Math.min(limit, at + 20))))}`,
    );
  }

  missing(seen) {
    if (this.row === 1)
      throw new ReadError(
        columnFault(
          this.members.map(({ name }) => stringText(name)),
          "a list of JSON records",
        ),
      );
    this.fault(`has no ${NAMES.find((_, field) => !(seen & (1 << field)))}`);
  }
}

function sameBytes(name, bytes, start, end) {
  if (name.length !== end - start) return false;
  for (let at = 0; at < name.length; at++) if (name[at] !== bytes[start + at]) return false;
  return true;
}
