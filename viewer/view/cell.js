/** What is known of one cell, in words. Pure. */
import { shortest } from "../export/csv.js";
import { positionWords } from "./columns.js";
import { brief, percent } from "./numbers.js";
import { METRIC_NAMES } from "./state.js";
import { header, rowName, unitName } from "./words.js";

/** All the digits of a distance: the shortest text that reads back as the same float32, or twelve digits of a float64. */
export function exact(value) {
  if (Number.isNaN(value)) return "undefined";
  return Math.fround(value) === value ? shortest(value) : String(Number(value.toPrecision(12)));
}

/**
 * @param {object} state
 * @param {object} view
 * @param {number} layer   an index, as is token
 * @param {number} token
 * @returns {{value: string, measure: string, relation: string, others: string}} `value` as a program reads it:
 *   "undefined" for NaN, "absent" where the table has no such row
 */
export function cellFacts(state, view, layer, token) {
  const place = layer * view.cols + token;
  const absent = view.absent !== null && view.absent[place] === 1;
  const value = view.values[place];
  const name = view.scale.signed ? `${METRIC_NAMES[state.metric]}, difference` : METRIC_NAMES[state.metric];
  return {
    value: absent ? "absent" : Number.isNaN(value) ? "undefined" : String(value),
    measure: `${name}: ${absent ? "no row" : exact(value)}`,
    relation: absent ? absentText(view) : relationText(state, view, layer, token, value),
    others: othersText(view, layer, token),
  };
}

function absentText({ scale }) {
  return scale.signed ? "One of the two has no such cell." : "The table has no row for this cell.";
}

function relationText({ metric }, { scale, floors, excludedMask, place }, layer, token, value) {
  const said = [];
  const floor = floors[layer];
  const most = scale.rowMax[layer];
  if (Number.isNaN(value))
    said.push(
      metric === "interaction" ? "No interaction is told from noise here." : "Masking leaves nothing to compare here.",
    );
  else if (floor !== null && Math.abs(value) <= floor)
    said.push(`At or below the noise floor (${brief(floor)}): it says nothing.`);
  else if (excludedMask[token] === 0 && most > 0)
    said.push(`${percent(Math.abs(value) / most)} of the ${rowName(place)}'s largest (${brief(most)}).`);
  if (excludedMask[token] === 1) said.push("Left out of the scale.");
  return said.join(" ");
}

function othersText({ compared, parts }, layer, token) {
  if (!compared) return "";
  const there = compared.tokenOf[token];
  const text =
    there >= 0 && compared.differing.includes(token)
      ? `The other has ${header(compared.otherTokens[there].text, 30)} here. `
      : "";
  if (!parts || there < 0 || compared.layerOf[layer] < 0) return text;
  const [here, other] = parts;
  const one = here.values[layer * here.cols + token];
  const two = other.values[compared.layerOf[layer] * other.cols + there];
  return `${text}${brief(one, 5)} here, ${brief(two, 5)} in the other.`;
}

/** Where a token stands: "position 5", and in an image its patch; a unit: "word, positions 3-5". */
export function placeText(token) {
  const { type, image, row, col, unit } = token;
  const where = `${unit ? `${unitName(unit)}, ` : ""}${positionWords(token)}`;
  return type === "vision" && row !== null ? `${where}, image ${image}, row ${row}, column ${col}` : where;
}

/** One sentence for those who hear it. */
export function spoken(state, view, layer, token) {
  const { measure, relation, others } = cellFacts(state, view, layer, token);
  const { text } = view.tokens[token];
  const where = `${header(text, 40)}, ${placeText(view.tokens[token])}, ${rowName(view.place)} ${view.layers[layer]}`;
  return `${where}. ${measure}. ${relation} ${others}`.trim();
}
