/** A table out of a file, whatever its format. */
import { readCsv } from "./csv.js";
import { NeedsFloat64 } from "./errors.js";
import { readJson } from "./json.js";
import { readParquet } from "./parquet.js";

/**
 * @param {Blob} blob
 * @param {"csv"|"json"|"parquet"} format
 * @param {{float64?: boolean, anyDigits?: boolean, signal?: AbortSignal, onProgress?: (done: number) => void}} [options]
 *   float64: the distances are float64; anyDigits: they are float32, with whatever digits; neither: float32 if that
 *   holds the digits in the file
 * @returns {Promise<{table: import("./result.js").Table, run?: string|null, loadBlock?: Function}>} as readParquet has it
 */
export async function readTable(blob, format, options = {}) {
  if (format === "parquet") return readParquet(blob, options);
  const read = format === "csv" ? readCsv : readJson;
  try {
    return { table: await read(blob, options) };
  } catch (error) {
    if (!(error instanceof NeedsFloat64)) throw error;
    return { table: await read(blob, { ...options, float64: true }) };
  }
}

/** The buffers of a table, or of a block, which a worker hands over and no longer has. */
export function buffersOf(table) {
  const parts = table.parts ?? [table];
  const tokens = parts
    .flatMap((part) => part.tokens)
    .flatMap(({ positions, codes, places }) => [positions, codes, places]);
  const blocks = parts.flatMap((part) => part.blocks.flat()).flatMap((block) => (block ? blockArrays(block) : []));
  return transferable([...tokens, ...blocks]);
}

export function buffersOfBlock(block) {
  return transferable(blockArrays(block));
}

function blockArrays({ l2, cosine, absent, interaction }) {
  return [l2, cosine, absent, interaction];
}

function transferable(arrays) {
  return [...new Set(arrays.filter(Boolean).map((array) => array.buffer))];
}
