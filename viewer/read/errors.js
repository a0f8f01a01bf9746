/** What is wrong with a file, in one sentence. */
export class ReadError extends Error {
  /** @param {string} sentence  without the file's name until `named` puts it in front */
  constructor(sentence) {
    super(sentence);
    this.name = "ReadError";
    this.file = null;
  }
}

/** The float32 numbers read so far do not hold the file's digits: read it again in float64. */
export class NeedsFloat64 extends Error {}

/** The error with its file in front; what is no ReadError is a fault of this page or of the browser, and says so. */
export function named(error, file) {
  if (error.name === "AbortError" || error.file) return error;
  const known = new ReadError(`${file}: ${error instanceof ReadError ? error.message : unforeseen(error)}`);
  known.file = file;
  return known;
}

function unforeseen(error) {
  if (error.name === "NotReadableError" || error.name === "NotFoundError") {
    return "the browser can no longer read this file; it was changed or moved since, so open it again";
  }
  if (error instanceof RangeError) return `too large for this browser's memory (${error.message})`;
  return `could not be read (${error.message ?? error})`;
}

/** A found text in quotes, short and on one line. */
export function quoted(text) {
  const shown = visible(JSON.stringify(cut(text)));
  return shown === '""' ? "nothing" : shown;
}

/** A few found names. */
export function listed(names) {
  const shown = names.slice(0, 8).map((name) => visible(cut(name)));
  return shown.join(", ") + (names.length > 8 ? ", …" : "");
}

function cut(text) {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

/** Without controls, and without what draws nothing or turns the text around it. */
function visible(text) {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (sign) => `\\u${sign.codePointAt(0).toString(16).padStart(4, "0")}`);
}

export function counted(number) {
  return number.toLocaleString("en-US");
}
