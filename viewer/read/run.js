/** Run files: {name}_run.json, which says what produced a table. Their values are checked where they are used (result.js). */
import { ReadError, counted, quoted } from "./errors.js";

export const SCHEMA_VERSION = 1; // the latest that this page knows
const LONGEST_LABEL = 200; // characters of a message
const LARGEST = 256 << 20; // bytes; a run of 1,000 steps over 64 layers of 32 heads takes 130 MB

/** The record in a run file. @returns {Promise<object>} */
export async function readRunFile(file) {
  if (file.size > LARGEST) throw new ReadError(`has ${counted(file.size)} bytes, too many for a run file`);
  return readRun(new TextDecoder().decode(await file.arrayBuffer()));
}

/** The record in a run file's text. Raises ReadError for one of a later version, or for something else. */
export function readRun(text) {
  let record;
  try {
    record = JSON.parse(text);
  } catch (error) {
    throw new ReadError(`is not a whole run file (${error.message}); copy or write it again`);
  }
  const version = record?.schema_version;
  if (typeof record !== "object" || !Number.isInteger(version)) {
    throw new ReadError(
      `is no run file: its schema_version is ${version === undefined ? "missing" : quoted(String(version))}`,
    );
  }
  if (version > SCHEMA_VERSION) {
    const newer = new ReadError(
      `has schema_version ${version}, but this page knows versions up to ${SCHEMA_VERSION}; open it with the visualize_results.html of the program that wrote it`,
    );
    throw Object.assign(newer, { newer: true });
  }
  return record;
}

/** Why a run has no whole table, in words; null for one that is complete. */
export function incomplete(record) {
  if (record.status === "complete") return null;
  const reason = typeof record.reason === "string" ? ` (${record.reason.slice(0, 300)})` : "";
  return record.status === "failed"
    ? `says that this run failed${reason}`
    : `has status ${quoted(String(record.status))}, not complete`;
}

/** What the record says how the distances are to be read: see readTable. */
export function digits(record) {
  const results = record?.dtypes?.results;
  return { float64: results === "float64", anyDigits: results === "float32" };
}

/** Raise ReadError if the table has another number of rows than its run wrote. */
export function checkRows(table, record, runFile) {
  const { rows } = record;
  if (Number.isInteger(rows) && record.status === "complete" && rows !== table.rows) {
    throw new ReadError(
      `has ${counted(table.rows)} rows where ${runFile} says ${counted(rows)}; one of them was cut short or belongs to another run`,
    );
  }
}

/** Equal for equal lists of texts, and short: hundreds of runs are listed. */
export function tokensKey(texts) {
  let hash = 0;
  for (const text of texts)
    for (let at = 0; at <= text.length; at++) hash = (Math.imul(hash, 31) + (text.charCodeAt(at) | 0)) | 0;
  return `${texts.length} ${hash}`;
}

/** The key of the prompt's tokens; null where the record does not have them. */
export function promptKey({ tokens, prompt_length: length }) {
  const texts = Array.isArray(tokens) && length > 0 ? tokens.slice(0, length).map((token) => token?.text) : [];
  return texts.length && texts.every((text) => typeof text === "string") ? tokensKey(texts) : null;
}

/** What the model was asked, short: the prompt, or a conversation's last message of the user; "" where there is neither. */
export function promptLabel(record) {
  const { prompt, messages } = record?.settings ?? {};
  if (typeof prompt === "string" && prompt !== "") return prompt;
  const asked = Array.isArray(messages) ? messages.findLast((message) => message?.role === "user") : null;
  const text = textOf(asked?.content);
  return text.length > LONGEST_LABEL ? `${text.slice(0, LONGEST_LABEL)}…` : text;
}

/** A message's text: its content, or the texts of its parts. */
function textOf(content) {
  if (typeof content === "string") return content;
  const parts = Array.isArray(content) ? content.map((part) => part?.text) : [];
  return parts.filter((text) => typeof text === "string").join(" ");
}

/** Whether the record's tokens are those of the table; what it does not say does not differ, nor do the texts of units. */
export function sameTokens(table, record) {
  const { positions, codes, places, where } = table.tokens.at(-1);
  if (!Array.isArray(record.tokens) || where) return true;
  return positions.every((position, index) => {
    const text = record.tokens[position]?.text;
    return places?.[3 * index] >= 0 || typeof text !== "string" || text === table.words[codes[index]];
  });
}
