/** Parquet: this tool's own files one heatmap at a time as they are asked for, those of others all at once. */
import { parquetMetadata, parquetRead } from "hyparquet";
import { MOST_LAYERS, MOST_POSITIONS, TableBuilder } from "./builder.js";
import { ReadError, counted } from "./errors.js";
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
  columnFault,
  fieldOf,
  hasUnits,
  isDistance,
  isText,
} from "./fields.js";
import { footerOf, readFooter } from "./footer.js";
import { blockOf, partsOf, unitFault } from "./units.js";
import { Words, variantName, variantOrder } from "./words.js";

const RUN_KEY = "mask_impact_run"; // its writer promises one row group for each step and variant, by layer and position

/**
 * @param {Blob} blob
 * @param {object} [options]  signal, onProgress
 * @returns {Promise<{table: import("./result.js").Table, run: string|null, loadBlock?: Function}>} `run` is the text of
 *   the run record in the file; `loadBlock(step, variant)` reads what the table has not
 */
export async function readParquet(blob, options = {}) {
  const file = await ParquetFile.open(blob);
  const heatmaps = file.run === null ? null : heatmapGroups(file);
  const lazy = heatmaps && (await (file.ofUnits ? lazyUnits(file, heatmaps) : lazyTable(file, heatmaps)));
  return lazy ?? { table: await wholeTable(file, options), run: file.run };
}

/** A file's groups, and its columns by field. */
class ParquetFile {
  static async open(blob) {
    const footer = await readFooter(blob);
    if (footer.groups.length === 0) throw new ReadError("has no rows");
    return new ParquetFile(blob, footer);
  }

  constructor(blob, footer) {
    this.footer = footer;
    this.groups = footer.groups;
    this.buffer = { byteLength: blob.size, slice: (start, end) => bytesOf(blob, start, end) };
    this.run = footer.texts.get(RUN_KEY) ?? null;
    const { schema } = this.metadata(this.groups[0]);
    const columns = schema.filter((element) => element.type);
    const names = columns.map((element) => element.name);
    const fault = columnFault(names);
    if (fault) throw new ReadError(fault);
    this.ofUnits = hasUnits(names);
    this.columns = NAMES.map((name, field) => (field >= UNIT && !this.ofUnits ? -1 : names.indexOf(name)));
    this.fields = NAMES.map((_, field) => field).filter((field) => this.columns[field] >= 0);
    for (const field of this.fields) checkType(field, columns[this.columns[field]].type);
    this.float64 = [L2, COSINE].some((field) => columns[this.columns[field]].type === "DOUBLE");
  }

  /** hyparquet's description of a file with this group alone. */
  metadata(group) {
    try {
      return parquetMetadata(footerOf(this.footer, group), { geoparquet: false });
    } catch (error) {
      throw new ReadError(`has a damaged Parquet footer (${error.message}); copy or write it again`);
    }
  }

  /** The first `rows` values of some fields in a group: an array for each field, undefined ones null or undefined. */
  async read(group, fields, rows = group.rows) {
    const metadata = this.metadata(group);
    const other = metadata.row_groups[0].columns.find(
      ({ meta_data: data }) => !["SNAPPY", "UNCOMPRESSED"].includes(data?.codec),
    );
    if (other) {
      throw new ReadError(
        `is compressed with ${other.meta_data?.codec}, which this page cannot unpack; write it with compression="snappy"`,
      );
    }
    const values = NAMES.map(() => []);
    const onChunk = ({ columnName, columnData }) => {
      const field = fieldOf(columnName);
      values[field] = values[field].length ? values[field].concat(Array.from(columnData)) : columnData;
    };
    try {
      await parquetRead({
        file: this.buffer,
        metadata,
        columns: fields.map((field) => NAMES[field]),
        rowStart: 0,
        rowEnd: rows,
        onChunk,
      });
    } catch (error) {
      throw new ReadError(`has a damaged row group (${error.message}); copy or write it again`);
    }
    const short = fields.find((field) => values[field].length < rows);
    if (short !== undefined) {
      throw new ReadError(
        `has ${counted(values[short].length)} values of ${NAMES[short]} in a row group of ${counted(group.rows)} rows, so it is damaged`,
      );
    }
    return values.map((column) => (column.length > rows ? column.slice(0, rows) : column));
  }

  /** The value that a field has at least or at most in a group; null if the file does not say. */
  bound(group, field, which) {
    const stored = group.columns[this.columns[field]]?.[which];
    if (!stored) return null;
    if (isText(field)) return new TextDecoder().decode(stored);
    const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
    return stored.length === 8
      ? Number(view.getBigInt64(0, true))
      : stored.length === 4
        ? view.getInt32(0, true)
        : null;
  }
}

/** Bytes of the file, at places that it names itself. A rejection is handled: hyparquet fetches some that it forgets. */
function bytesOf(blob, start, end) {
  const inside = start >= 0 && start <= end && end <= blob.size;
  const bytes = inside
    ? blob.slice(start, end).arrayBuffer()
    : Promise.reject(new Error(`it names bytes ${start} to ${end}`));
  bytes.catch(() => {});
  return bytes;
}

function checkType(field, type) {
  const wanted = isText(field)
    ? ["BYTE_ARRAY"]
    : isDistance(field)
      ? ["FLOAT", "DOUBLE"]
      : ["INT32", "INT64", "DOUBLE"];
  if (!wanted.includes(type))
    throw new ReadError(`has ${NAMES[field]} as ${type}, where a result has ${wanted.join(" or ")}`);
}

/** The group of each step and variant, if there is one for each that has the whole of it; null otherwise. */
function heatmapGroups(file) {
  const steps = new Map();
  for (const group of file.groups) {
    const only = (field) =>
      file.bound(group, field, "min") === file.bound(group, field, "max") ? file.bound(group, field, "min") : null;
    const [step, variant] = [only(STEP), only(VARIANT)];
    const positions = (file.bound(group, POSITION, "max") ?? -1) + 1;
    if (step === null || variant === null || positions > MOST_POSITIONS) return null;
    if (!steps.has(step)) steps.set(step, { step, positions, groups: new Map() });
    const found = steps.get(step);
    if (found.groups.has(variant)) return null;
    if (!file.ofUnits && (!fromZero(file, group) || found.positions !== positions || group.rows % positions !== 0))
      return null;
    found.groups.set(variantName(variant), group);
  }
  return [...steps.values()].sort((one, other) => one.step - other.step);
}

function fromZero(file, group) {
  return file.bound(group, POSITION, "min") === 0;
}

/** A table of units, read as lazyTable's is: each step has its own, which every layer of its groups has in the same order. */
async function lazyUnits(file, heatmaps) {
  const known = new Set(heatmaps.flatMap(({ groups }) => [...groups.keys()]));
  const variants = [...known].sort((one, other) => variantOrder(one) - variantOrder(other));
  const variant = variants.findIndex((name) => heatmaps[0].groups.has(name));
  const words = new Words();
  const tokens = [];
  let layers = null;
  for (const { groups } of heatmaps) {
    const group = groups.get(variants[variant]) ?? groups.values().next().value;
    const found = await unitsOf(file, group, words);
    layers ??= found && (await layersOf(file, group, found.kinds.length));
    if (!found || !layers) return null;
    if ([...groups.values()].some(({ rows }) => rows % found.kinds.length || rows > layers.length * found.kinds.length))
      return null;
    tokens.push(found);
  }
  const parts = partsOf(
    tokens,
    heatmaps.map(() => variants.map(() => null)),
  );
  const whole = (step, index) =>
    readHeatmap(file, heatmaps[step].groups.get(variants[index]), layers, tokens[step].kinds.length);
  const loadBlock = async (step, index, kind) => blockOf(await whole(step, index), tokens[step], kind);
  parts[0].blocks[0][variant] = await loadBlock(0, variant, parts[0].kind);
  const table = {
    steps: heatmaps.map(({ step }) => step),
    variants,
    layers,
    words: words.texts,
    rows: file.groups.reduce((rows, group) => rows + group.rows, 0),
    interaction: file.columns[INTERACTION] >= 0,
    ...parts[0],
    parts,
  };
  return { table, run: file.run, loadBlock };
}

/** The units of a group, from the rows of its first layer; null where they cannot be told from its later layers'. */
async function unitsOf(file, group, words) {
  const layers = (await file.read(group, [LAYER]))[LAYER];
  const next = layers.findIndex((layer) => layer !== layers[0]);
  const fields = file.fields.filter((field) => [POSITION, TOKEN, UNIT, POSITIONS, IMAGE, ROW, COL].includes(field));
  const own = await file.read(group, fields, next < 0 ? group.rows : next);
  const positions = Int32Array.from(own[POSITION], Number);
  const faulty = (index) => unitFault(own[UNIT][index], own[POSITIONS][index], positions[index]) !== null;
  if (own[UNIT].some((_, index) => faulty(index))) return null;
  return {
    positions,
    codes: Int32Array.from(own[TOKEN], (text) => words.number(text ?? "")),
    places: placesOf(own),
    kinds: own[UNIT],
    where: own[POSITIONS],
  };
}

/** Image, row and column of each; -1 for what there is none of. Null where there are no images. */
function placesOf(columns) {
  if (!columns[IMAGE].some((image) => (image ?? null) !== null)) return null;
  const numbers = [IMAGE, ROW, COL].map((field) => columns[field]);
  return Int32Array.from(Array.from(columns[IMAGE]).flatMap((_, at) => numbers.map((own) => Number(own[at] ?? -1))));
}

/** A table that holds its first heatmap and reads the others when asked; null if the file turns out to be otherwise. */
async function lazyTable(file, heatmaps) {
  const known = new Set(heatmaps.flatMap(({ groups }) => [...groups.keys()]));
  const variants = [...known].sort((one, other) => variantOrder(one) - variantOrder(other));
  const [first, last] = [heatmaps[0], heatmaps.at(-1)];
  const variant = variants.findIndex((name) => first.groups.has(name));
  const layers = await layersOf(file, first.groups.get(variants[variant]), first.positions);
  const tokens = await tokensOf(file, last.groups.values().next().value, last.positions);
  const fits = ({ positions, groups }) =>
    positions <= last.positions && [...groups.values()].every((group) => group.rows <= layers.length * positions);
  if (!layers || !tokens || !heatmaps.every(fits)) return null;

  const table = {
    steps: heatmaps.map(({ step }) => step),
    variants,
    layers,
    words: tokens.words,
    tokens: heatmaps.map(({ positions }) => tokens.upTo(positions)),
    blocks: heatmaps.map(() => variants.map(() => null)),
    rows: file.groups.reduce((rows, group) => rows + group.rows, 0),
  };
  const loadBlock = (step, index) =>
    readHeatmap(file, heatmaps[step].groups.get(variants[index]), layers, heatmaps[step].positions);
  table.blocks[0][variant] = await loadBlock(0, variant);
  return { table, run: file.run, loadBlock };
}

/** The layers of a heatmap's group, ascending; null if they are not. */
async function layersOf(file, group, positions) {
  const count = group.rows / positions;
  const [least, most] = [file.bound(group, LAYER, "min"), file.bound(group, LAYER, "max")];
  if (!(least >= 0 && most < MOST_LAYERS)) return null;
  if (most - least + 1 === count) return Array.from({ length: count }, (_, row) => least + row);
  const column = (await file.read(group, [LAYER]))[LAYER];
  const layers = Array.from({ length: count }, (_, row) => Number(column[row * positions]));
  return layers.every((layer, row) => row === 0 || layer > layers[row - 1]) ? layers : null;
}

/** The tokens of a heatmap's first layer, if they stand by position; null otherwise. */
async function tokensOf(file, group, positions) {
  const columns = await file.read(
    group,
    file.fields.filter((field) => [POSITION, TOKEN, IMAGE, ROW, COL].includes(field)),
    positions,
  );
  if (!columns[POSITION].every((position, index) => Number(position) === index)) return null;
  const words = new Words();
  const codes = Int32Array.from(columns[TOKEN], (text) => words.number(text ?? ""));
  const places = placesOf(columns);
  const upTo = (count) => ({
    positions: Int32Array.from({ length: count }, (_, position) => position),
    codes: codes.subarray(0, count),
    places: places && places.subarray(0, 3 * count),
  });
  return { words: words.texts, upTo };
}

/** One heatmap as a block of all the table's layers. */
async function readHeatmap(file, group, layers, cols) {
  const Floats = file.float64 ? Float64Array : Float32Array;
  const block = {
    l2: new Floats(layers.length * cols).fill(NaN),
    cosine: new Floats(layers.length * cols).fill(NaN),
    absent: null,
  };
  const measures = [L2, COSINE, INTERACTION].filter((field) => file.columns[field] >= 0);
  if (measures.includes(INTERACTION)) block.interaction = block.l2.slice();
  if (!group) return { ...block, absent: new Uint8Array(layers.length * cols).fill(1) };
  const own = group.rows === layers.length * cols ? layers : await layersOf(file, group, cols);
  const rows = own?.map((layer) => layers.indexOf(layer)) ?? [-1];
  if (rows.includes(-1))
    throw new ReadError("has a row group with layers that its first one does not have; write it again");
  const columns = await file.read(group, measures);
  if (rows.length < layers.length) {
    block.absent = new Uint8Array(layers.length * cols).fill(1);
    for (const row of rows) block.absent.fill(0, row * cols, (row + 1) * cols);
  }
  for (const field of measures) {
    const to = { [L2]: block.l2, [COSINE]: block.cosine, [INTERACTION]: block.interaction }[field];
    rows.forEach((row, index) => copyDistances(columns[field], index * cols, to, row * cols, cols, field));
  }
  return block;
}

function copyDistances(from, start, to, target, count, field) {
  for (let index = 0; index < count; index++) {
    const value = from[start + index] ?? NaN;
    if (value < 0 || value === Infinity)
      throw new ReadError(`has ${NAMES[field]} ${value} in a row group, where a distance is at least 0 and finite`);
    to[target + index] = value;
  }
}

/** All rows of a file, in whatever groups and order. */
async function wholeTable(file, { signal, onProgress }) {
  const words = new Words();
  const variants = new Words();
  const units = file.ofUnits ? { kinds: new Words(), positions: new Words() } : null;
  const builder = new TableBuilder({ float64: file.float64, words, variants, units });
  const number = (value) => (value === null || value === undefined ? NaN : Number(value));
  for (const [index, group] of file.groups.entries()) {
    signal?.throwIfAborted();
    const columns = await file.read(group, file.fields);
    for (let row = 0; row < group.rows; row++) {
      const [step, layer, position, l2, cosine] = [STEP, LAYER, POSITION, L2, COSINE].map((field) =>
        number(columns[field][row]),
      );
      const variant = variants.number(knownVariant(columns[VARIANT][row], builder));
      const word = words.number(columns[TOKEN][row] ?? "");
      const text = (field) => columns[field][row] ?? "";
      const column = units
        ? builder.column(step, position, word, units.kinds.number(text(UNIT)), units.positions.number(text(POSITIONS)))
        : position;
      const isNew = builder.add(step, layer, column, word, variant, l2, cosine);
      if (columns[INTERACTION].length) builder.interact(layer, column, variant, number(columns[INTERACTION][row]));
      if (isNew && columns[IMAGE].length)
        builder.place(column, number(columns[IMAGE][row]), number(columns[ROW][row]), number(columns[COL][row]));
    }
    onProgress?.(Math.round((file.buffer.byteLength * (index + 1)) / file.groups.length));
  }
  return builder.finish();
}

function knownVariant(text, builder) {
  try {
    return variantName(text ?? "");
  } catch (error) {
    throw new ReadError(`row ${counted(builder.rows + 1)}: ${NAMES[VARIANT]} ${error.message}`);
  }
}
