/** A report: this page with one run inside, which mask_impact/report.py puts into inert script elements. */
import { ReadError, named } from "./errors.js";
import { makeResult } from "./result.js";
import { readRun } from "./run.js";

/**
 * The blocks: `report-table` (axes and tokens, JSON), `report-run` (the run record, JSON) and for each step and variant
 * `report-data-STEP-VARIANT`: base64 of gzip of float32, little-endian: L2 of the variant's layers by token, then cosine.
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
    } = JSON.parse(text);
    const run = textOf(document, "report-run");
    const positions = masked.map((given) =>
      Array.isArray(given) ? Int32Array.from(given) : Int32Array.from({ length: given }, (_, at) => at),
    );
    const table = {
      steps,
      variants,
      layers,
      words,
      rows,
      tokens: positions.map((own) => ({
        positions: own,
        codes: own.map((at) => codes[at]),
        places: places ? Int32Array.from(Array.from(own).flatMap((at) => places[at])) : null,
      })),
      blocks: steps.map(() => variants.map(() => null)),
    };
    const loadBlock = async (step, variant) => {
      const rowsOf = ownLayers[variant].map((layer) => layers.indexOf(layer));
      const values = await unpack(
        textOf(document, `report-data-${step}-${variant}`),
        2 * rowsOf.length * positions[step].length,
      );
      return blockOf(values, rowsOf, layers.length, positions[step].length);
    };
    if (steps.length) table.blocks[0][0] = await loadBlock(0, 0);
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

/** @returns {Promise<Float32Array>} */
async function unpack(text, length) {
  const packed = Uint8Array.from(atob((text ?? "").trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  if (bytes.byteLength !== 4 * length)
    throw new ReadError(`its data is damaged (${bytes.byteLength} bytes where ${4 * length} belong); write it again`);
  return new Float32Array(bytes); // little-endian, as every browser's machine is
}

function blockOf(values, rowsOf, rows, cols) {
  const half = values.length / 2;
  if (rowsOf.length === rows) return { l2: values.subarray(0, half), cosine: values.subarray(half), absent: null };
  const block = {
    l2: new Float32Array(rows * cols).fill(NaN),
    cosine: new Float32Array(rows * cols).fill(NaN),
    absent: new Uint8Array(rows * cols).fill(1),
  };
  rowsOf.forEach((row, index) => {
    block.l2.set(values.subarray(index * cols, (index + 1) * cols), row * cols);
    block.cosine.set(values.subarray(half + index * cols, half + (index + 1) * cols), row * cols);
    block.absent.fill(0, row * cols, (row + 1) * cols);
  });
  return block;
}
