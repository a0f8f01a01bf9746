import { counted, listed } from "./errors.js";

/** The columns of a result, and the order in which the readers hand a row's values over. */
export const STEP = 0,
  LAYER = 1,
  POSITION = 2,
  TOKEN = 3,
  VARIANT = 4,
  L2 = 5,
  COSINE = 6,
  IMAGE = 7,
  ROW = 8,
  COL = 9,
  UNIT = 10,
  POSITIONS = 11,
  INTERACTION = 12;

/** Column name of each field; three are there for vision-language runs alone, the last three where rows are units. */
export const NAMES = [
  "generation_step",
  "layer",
  "token_position",
  "token_masked",
  "variant",
  "l2_distance",
  "cosine_distance",
  "image_index",
  "patch_row",
  "patch_col",
  "unit",
  "positions",
  "interaction_l2",
];
export const REQUIRED = 7;

/** The field of a column, -1 for one that is none of ours (an index, say). */
export function fieldOf(name) {
  return NAMES.indexOf(name);
}

export function isText(field) {
  return field === TOKEN || field === VARIANT || field === UNIT || field === POSITIONS;
}

export function isDistance(field) {
  return field === L2 || field === COSINE || field === INTERACTION;
}

/** May it be empty? Distances may (undefined), and a text token's image and patch. */
export function mayBeEmpty(field) {
  return field >= L2 && !isText(field);
}

/** Are a table's rows units? Either column alone is one of somebody else's. */
export function hasUnits(names) {
  return names.includes(NAMES[UNIT]) && names.includes(NAMES[POSITIONS]);
}

/** What keeps the number from counting steps, layers, positions or patches, or null. */
export function wholeFault(field, value, limit) {
  if (Number.isInteger(value) && value >= 0 && value < limit) return null;
  return `${NAMES[field]} is ${Number.isNaN(value) ? "empty" : value}, where a whole number from 0 to ${counted(limit - 1)} belongs`;
}

/**
 * What keeps these column names from being a result, or null.
 * @param {string} kind  what the file is, such as "a table"
 */
export function columnFault(names, kind = "a table") {
  const missing = NAMES.slice(0, REQUIRED).filter((name) => !names.includes(name));
  if (missing.length === REQUIRED) return noResult(names.length ? `${kind} of ${listed(names)}` : `${kind} of nothing`);
  if (missing.length)
    return `has no column ${missing.join(", ")}, so it is not a result of this tool (columns found: ${listed(names)})`;
  const twice = NAMES.find((name) => names.indexOf(name) !== names.lastIndexOf(name));
  return twice ? `has the column ${twice} twice` : null;
}

/** Says what a file is that is no result. */
export function noResult(what) {
  return `is ${what}, but no result of this tool, which has the columns ${NAMES.slice(0, REQUIRED).join(", ")}`;
}
