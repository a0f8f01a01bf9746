/** How token texts are shown: nothing invisible, nothing that reorders what stands beside it, nothing endless. */

const NAMED = { "\n": "⏎", "\t": "⇥", "\r": "␍" };
const EMPTY = "∅";
const CUT = "…";

/** What a row of a place is called: a layer, or in the vision encoder a block. */
export function rowName(place) {
  return place?.result.part === "encoder" ? "block" : "layer";
}

/** What a column of a place is called. */
export function columnName(place) {
  if (place && place.result.kind !== "tokens") return unitName(place.result.kind);
  return place?.result.part === "encoder" ? "cell" : "token";
}

/** What stands in its running text. */
export function tokenWord({ result }) {
  return result.kind === "tokens" ? "token" : unitName(result.kind);
}

/** One of a kind of units: a word, a pair. */
export function unitName(kind) {
  return kind.slice(0, -1);
}

/** Texts with nothing to make visible: most tokens. */
const PLAIN = /^[!-~]+(?: [!-~]+)*$/;
/** What scripts and emoji are spelt with a joiner between. Latin letters are not: there a joiner is a hidden sign. */
const JOINED = "[\\p{M}\\p{Extended_Pictographic}]|(?!\\p{Script=Latin})\\p{L}";
/** Controls, spaces other than " ", direction marks, half surrogates, and letters that draw nothing. */
const UNSEEN = new RegExp(
  `(?<!${JOINED})[\\u200c\\u200d]|[\\u200c\\u200d](?!${JOINED})|(?![\\u200c\\u200d])\\p{Cf}` +
    "|[\\p{Cc}\\p{Cs}\\p{NChar}\\p{Zl}\\p{Zp}\\u034f\\u115f\\u1160\\u3164\\uffa0]|(?! )\\p{Zs}",
  "gu",
);
/** Spaces that would be lost to the eye: at either end, and where two or more stand together. */
const LOST_SPACES = /^ +| +$| {2,}/g;

/** @returns {string} the text as it is shown: spaces at its ends as "·", line ends and controls by a sign or U+XXXX */
export function visible(text) {
  if (PLAIN.test(text)) return text;
  return text === "" ? EMPTY : unseenShown(text).replace(LOST_SPACES, (spaces) => "·".repeat(spaces.length));
}

/**
 * The text for prose, where each token has a ground of its own: a single space at its start stays a space, and a line
 * ends behind each sign for a line's end.
 */
export function running(text) {
  const spaced = /^ [^ ]/.test(text);
  const shown = spaced ? " " + visible(text.slice(1)) : visible(text);
  return /[\r\n]/.test(text) ? shown.replace(/␍⏎|⏎|␍/g, "$&\n") : shown;
}

/**
 * The visible text of at most `most` characters, the last of them "…" where it is longer. A character is what a
 * reader takes for one: never half an emoji, and U+XXXX whole.
 */
export function header(text, most) {
  if (text.length <= most && PLAIN.test(text)) return text;
  const whole = text.length <= 16 * most; // longer texts are cut first: a token may have 10,000 characters
  const shown = characters(visible(whole ? text : text.slice(0, 16 * most)));
  if (whole && shown.length <= most) return shown.join("");
  return shown.slice(0, Math.max(0, most - 1)).join("") + CUT;
}

function unseenShown(text) {
  const shown = text.replace(UNSEEN, (sign) => NAMED[sign] ?? codePoint(sign));
  return shown.replace(/^\p{M}/u, (mark) => (/\p{Variation_Selector}/u.test(mark) ? codePoint(mark) : "◌" + mark));
}

function codePoint(sign) {
  return "U+" + sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
}

const segmenter = globalThis.Intl?.Segmenter ? new Intl.Segmenter(undefined, { granularity: "grapheme" }) : null;

/** What a reader takes for characters; a U+XXXX is one. */
function characters(text) {
  if (/^[ -~·⏎⇥␍∅]*$/.test(text) && !text.includes("U+")) return [...text];
  return text.split(/(U\+[0-9A-F]{4,6})/).flatMap((part, index) => {
    if (index % 2) return [part];
    return segmenter ? Array.from(segmenter.segment(part), ({ segment }) => segment) : [...part];
  });
}
