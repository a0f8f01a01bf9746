/** Decimal numbers out of bytes, without making text of them where that can be helped. */

const TEN_TO = Float64Array.from({ length: 23 }, (_, power) => Number(`1e${power}`)); // each exact in float64
const NINE_DIGITS = 999_999_999; // as many as a float32's shortest text can have

const LESS = 1 - 2 ** -51,
  MORE = 1 + 2 ** -51; // two roundings in float64 lie between

const isDigit = (byte) => byte >= 48 && byte <= 57;

/**
 * `read` gives the number that begins at a byte, the same as Number(text) would once it is rounded to what it is read
 * for, and leaves the place behind it in `end`; where no number begins, `end` is that byte itself. The bytes must end
 * in one that is no part of a number.
 */
export class NumberReader {
  end = 0;
  /** Turns true at the first number that a float32 does not hold. */
  wide = false;

  /** @param {boolean} float32  are the numbers stored as float32? */
  constructor(float32) {
    this.float32 = float32;
  }

  /** @returns {number} */
  read(bytes, start) {
    let at = start;
    let byte = bytes[at];
    const negative = byte === 45;
    if (negative) byte = bytes[++at];
    let mantissa = 0; // exact below 2^53, and never again below it once past
    const digits = at;
    for (; byte >= 48 && byte <= 57; byte = bytes[++at]) mantissa = mantissa * 10 + (byte - 48);
    let count = at - digits;
    let power = 0;
    if (byte === 46) {
      const point = at;
      for (byte = bytes[++at]; byte >= 48 && byte <= 57; byte = bytes[++at]) mantissa = mantissa * 10 + (byte - 48);
      power = point + 1 - at;
      count += -power;
    }
    if (count === 0) {
      this.end = start;
      return NaN;
    }
    if (byte === 101 || byte === 69) {
      const behind = exponentEnd(bytes, at);
      if (behind > at) {
        power += exponent(bytes, at + 1, behind);
        at = behind;
      }
    }
    this.end = at;
    if (power < -22 && power >= -44 && mantissa <= NINE_DIGITS && this.float32) {
      const near = mantissa / TEN_TO[22] / TEN_TO[-power - 22];
      if (Math.fround(near * LESS) === Math.fround(near * MORE)) return negative ? -near : near;
    }
    if (!(mantissa <= Number.MAX_SAFE_INTEGER && power <= 22 && power >= -22)) return this.hard(bytes, start, at);
    const value = power < 0 ? mantissa / TEN_TO[-power] : mantissa * TEN_TO[power]; // one rounding: as Number() has it
    if (mantissa > NINE_DIGITS) this.note(value, bytes, start, at);
    return negative ? -value : value;
  }

  /** A number of many digits or of extreme size: the language's own conversion. */
  hard(bytes, start, end) {
    const value = Number(asciiText(bytes, start, end));
    this.note(value, bytes, start, end);
    return value;
  }

  /** Note a wide number; one that the window cuts in two is looked at when it is whole. */
  note(value, bytes, start, end) {
    const cut = bytes[end] === 0 || bytes[end] === 101 || bytes[end] === 69;
    if (!this.wide && !cut) this.wide = !held(value, bytes, start, end);
  }
}

/** Whether a float32 stands for this number: it is one, or has no more digits than one is written with. */
function held(value, bytes, start, end) {
  const narrow = Math.fround(value);
  if (narrow === value) return true;
  return Number.isFinite(narrow) && narrow !== 0 && significantDigits(bytes, start, end) <= 9;
}

/** Where the exponent that begins with the `e` at `at` ends; `at` itself if it has no digit. */
function exponentEnd(bytes, at) {
  const signed = bytes[at + 1] === 45 || bytes[at + 1] === 43;
  let end = at + 1 + signed;
  if (!isDigit(bytes[end])) return at;
  while (isDigit(bytes[end])) end++;
  return end;
}

function exponent(bytes, start, end) {
  const negative = bytes[start] === 45;
  let value = 0;
  for (let at = start; at < end; at++) if (isDigit(bytes[at])) value = Math.min(value * 10 + (bytes[at] - 48), 9999);
  return negative ? -value : value;
}

function significantDigits(bytes, start, end) {
  let count = 0;
  let zeros = 0; // not yet known to stand before another digit
  for (let at = start; at < end && bytes[at] !== 101 && bytes[at] !== 69; at++) {
    if (bytes[at] === 48) zeros += count > 0;
    else if (isDigit(bytes[at])) [count, zeros] = [count + zeros + 1, 0];
  }
  return count;
}

function asciiText(bytes, start, end) {
  let text = "";
  for (let at = start; at < end; at++) text += String.fromCharCode(bytes[at]);
  return text;
}
