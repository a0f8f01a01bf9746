/** The view as CSV: the columns of a result, and the distance that is shown where the result has no column for it. */

const COLUMNS = [
  "generation_step",
  "layer",
  "token_masked",
  "token_position",
  "variant",
  "l2_distance",
  "cosine_distance",
];
const UNITS = ["unit", "positions"];
const VISION = ["token_type", "image_index", "patch_row", "patch_col"];

/** The shortest decimal that reads back as the same float32; "" for NaN. Six digits are never too few to tell two apart. */
export function shortest(value) {
  if (Number.isNaN(value)) return "";
  const single = Math.fround(value);
  const tiny = Math.abs(single) < 1.2e-38; // below it float32 has fewer digits
  for (let digits = tiny ? 1 : 6; digits < 9; digits++) {
    const text = Number(single.toPrecision(digits));
    if (Math.fround(text) === single) return String(text);
  }
  return String(Number(single.toPrecision(9)));
}

/** A field of text, always quoted (RFC 4180): a lone \r that is not quoted is read back as a line's end. */
export function quoted(text) {
  return `"${text.replaceAll('"', '""')}"`;
}

/**
 * @param {object} picture
 * @param {number} picture.step          the generation step itself, not its index
 * @param {string} picture.variant       its name
 * @param {number[]} picture.layers
 * @param {object[]} picture.tokens      as `result.tokens` gives them
 * @param {{values: ArrayLike<number>}|null} picture.l2       (layer, token); null leaves the column out, as does...
 * @param {{values: ArrayLike<number>}|null} picture.cosine   ...here
 * @param {{name: string, values: ArrayLike<number>, single: boolean}|null} picture.more   one column more: a relative
 *   distance, a difference; `single`: computed from float32, which has no more digits to give
 * @param {{values: ArrayLike<number>}|null} [picture.interaction]   of pairs
 * @param {Uint8Array|null} picture.absent   1 where the table has no row: none is written
 * @returns {string[]} the header, then one piece for each layer; joined they are the file
 */
export function csvPieces({ step, variant, layers, tokens, l2, cosine, more, absent, interaction = null }) {
  const measures = [
    l2 && { name: "l2_distance", ...l2 },
    cosine && { name: "cosine_distance", ...cosine },
    more,
  ].filter(Boolean);
  const vision = tokens.some(({ type }) => type === "vision");
  const units = tokens.some(({ unit }) => unit);
  const names = [
    ...COLUMNS.slice(0, 5),
    ...measures.map(({ name }) => name),
    ...(units ? UNITS : []),
    ...(interaction ? ["interaction_l2"] : []),
    ...(vision ? VISION : []),
  ];
  const inText = ({ values, single }) => (values instanceof Float64Array && !single ? exact : shortest);
  const numbers = measures.map(inText);
  const heads = tokens.map(({ text, position }) => `${quoted(text)},${position},${quoted(variant)},`);
  const named = tokens.map(({ unit, where }) => (units ? `,${quoted(unit)},${quoted(where)}` : ""));
  const tails = tokens.map((token) => (vision ? "," + visionFields(token) : "") + "\r\n");
  const ofPair = interaction && inText(interaction);

  const ofLayer = (layer, row) => {
    const lines = [];
    for (let token = 0, place = row * tokens.length; token < tokens.length; token++, place++) {
      if (absent?.[place]) continue;
      const distances = measures.map(({ values }, index) => numbers[index](values[place])).join(",");
      const pair = ofPair ? `,${ofPair(interaction.values[place])}` : "";
      lines.push(`${step},${layer},${heads[token]}${distances}${named[token]}${pair}${tails[token]}`);
    }
    return lines.join("");
  };
  return [names.map(quoted).join(",") + "\r\n", ...layers.map(ofLayer)];
}

function visionFields({ type, image, row, col }) {
  return [quoted(type), image ?? "", row ?? "", col ?? ""].join(",");
}

function exact(value) {
  return Number.isNaN(value) ? "" : String(value);
}
