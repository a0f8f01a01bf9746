/** A report: this page with one run inside, which mask_impact/report.py puts into inert script elements. */
import { ReadError, named } from "./errors.js";
import { makeResult } from "./result.js";
import { readRun } from "./run.js";
import { blockOf, partsOf, stretches } from "./units.js";
import { Words } from "./words.js";

/**
 * The blocks: `report-table` (axes and tokens, JSON), `report-run` (the run record, JSON) and for each step and variant
 * `report-data-STEP-VARIANT`: base64 of gzip of float32, little-endian: L2 of the variant's layers by token, then cosine.
 * Where rows are units, `units` of the table has for each step their `texts`, `kinds` and `positions`, and `interaction`
 * says that a third part of each block has the interactions.
 *
 * @param {Document} document
 * @returns {Promise<object|null>} a Result; null if the page is no report
 */
export async function openEmbedded(document) {
  const text = textOf(document, "report-table");
  if (text === null) return null;
  try {
    const {
      name,
      steps,
      variants,
      layers,
      own_layers: ownLayers,
      positions: masked,
      words,
      codes,
      places,
      rows,
      notes,
      units = null,
      interaction = false,
    } = JSON.parse(text);
    const run = textOf(document, "report-run");
    const shared = { steps, variants, layers, rows, interaction };
    const unitTexts = new Words();
    const tokens = units
      ? units.map((step) => unitsOf(step, unitTexts, places))
      : masked.map((given) => tokensOf(given, codes, places));
    const blocks = steps.map(() => variants.map(() => null));
    const parts = units && partsOf(tokens, blocks);
    const table = units
      ? { ...shared, words: unitTexts.texts, ...parts[0], parts }
      : { ...shared, words, tokens, blocks };
    const loadBlock = async (step, variant, kind) => {
      const rowsOf = ownLayers[variant].map((layer) => layers.indexOf(layer));
      const cols = tokens[step].positions.length;
      const measures = interaction ? 3 : 2;
      const values = await unpack(textOf(document, `report-data-${step}-${variant}`), measures * rowsOf.length * cols);
      const block = makeBlock(values, rowsOf, layers.length, cols, measures);
      return units ? blockOf(block, tokens[step], kind) : block;
    };
    if (steps.length) table.blocks[0][0] = await loadBlock(0, 0, parts?.[0].kind);
    const sources = [{ file: name, format: "report", bytes: text.length }];
    return makeResult(table, {
      id: name,
      name,
      sources,
      run: run === null ? null : readRun(run),
      notes: notes ?? [],
      loadBlock,
    });
  } catch (error) {
    throw named(
      error instanceof ReadError ? error : new ReadError(`its data is damaged (${error.message}); write it again`),
      "this report",
    );
  }
}

function textOf(document, id) {
  return document.getElementById(id)?.textContent ?? null;
}

/** The tokens of a step that masks positions one by one: their list, or how many there are. */
function tokensOf(given, codes, places) {
  const positions = Array.isArray(given) ? Int32Array.from(given) : Int32Array.from({ length: given }, (_, at) => at);
  return {
    positions,
    codes: positions.map((at) => codes[at]),
    places: places ? Int32Array.from(Array.from(positions).flatMap((at) => places[at])) : null,
  };
}

/** The units of a step; one of several positions is no patch of its picture. */
function unitsOf({ texts, kinds, positions: where }, words, places) {
  const ranges = where.map(stretches);
  const placeOf = ([[first, last], ...more]) =>
    last > first || more.length ? [places[first][0], -1, -1] : places[first];
  return {
    kinds,
    where,
    positions: Int32Array.from(ranges, ([[first]]) => first),
    codes: Int32Array.from(texts, (text) => words.number(text)),
    places: places && Int32Array.from(ranges.flatMap(placeOf)),
  };
}

/** @returns {Promise<Float32Array>} */
async function unpack(text, length) {
  const packed = Uint8Array.from(atob((text ?? "").trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  if (bytes.byteLength !== 4 * length)
    throw new ReadError(`its data is damaged (${bytes.byteLength} bytes where ${4 * length} belong); write it again`);
  return new Float32Array(bytes); // little-endian, as every browser's machine is
}

/** A block of all the table's layers; the values are those of each measure, of the variant's own layers. */
function makeBlock(values, rowsOf, rows, cols, measures) {
  const own = rowsOf.length * cols;
  const whole = rowsOf.length === rows;
  const [l2, cosine, interaction] = Array.from({ length: measures }, (_, measure) => {
    const part = values.subarray(measure * own, (measure + 1) * own);
    if (whole) return part;
    const to = new Float32Array(rows * cols).fill(NaN);
    rowsOf.forEach((row, index) => to.set(part.subarray(index * cols, (index + 1) * cols), row * cols));
    return to;
  });
  const absent = whole ? null : new Uint8Array(rows * cols).fill(1);
  if (absent) for (const row of rowsOf) absent.fill(0, row * cols, (row + 1) * cols);
  return interaction ? { l2, cosine, absent, interaction } : { l2, cosine, absent };
}
