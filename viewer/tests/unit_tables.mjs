/** A small run by words, spans and pairs, for tests. */
import { File } from "node:buffer";

import { createOpener } from "../read/opening.js";
import { readTable } from "../read/table.js";
import { shuffled } from "./tables.mjs";

export const NAMES = [
  "generation_step",
  "layer",
  "token_masked",
  "token_position",
  "variant",
  "l2_distance",
  "cosine_distance",
  "unit",
  "positions",
  "interaction_l2",
];
export const TEXTS = ["Anna", " saw", " the", " E", "iffel", " Tower", "s"];

/** [unit, text, positions] of each step: its last word grows. */
export const STEPS = [0, 1].map((step) => [
  ["words", "Anna", "0"],
  ["words", " saw", "1"],
  ["words", " the", "2"],
  ["words", " Eiffel", "3-4"],
  ["words", step ? " Towers" : " Tower", step ? "5-6" : "5"],
  ["spans", "place", "3-5"],
  ["spans", "seer", "0"],
  ["spans", "again", "3-5"],
  ["pairs", "place + seer", "0,3-5"],
  ["pairs", "again + seer", "0,3-5"],
]);

/** Distances count up; the pairs' interaction is a tenth of theirs, the last of them none. */
export function unitRows(steps = STEPS, variants = ["Full", "Head_0"], layers = [0, 1]) {
  const rows = [];
  steps.forEach((units, step) =>
    variants.forEach((variant) =>
      layers.forEach((layer) =>
        units.forEach(([unit, text, positions]) => {
          const value = rows.length + 1;
          const pair = unit === "pairs" && text !== "again + seer" ? value / 10 : null;
          const first = Number.parseInt(positions, 10);
          rows.push([step, layer, text, first, variant, value, value / 100, unit, positions, pair]);
        }),
      ),
    ),
  );
  return rows;
}

const cell = (value) => (value === null ? "" : typeof value === "string" ? `"${value.replaceAll('"', '""')}"` : value);

export const FORMS = {
  csv: (rows, names = NAMES) =>
    [names, ...rows.map((row) => row.map(cell))].map((row) => `${row.join(",")}\n`).join(""),
  json: (rows, names = NAMES) =>
    JSON.stringify(Object.fromEntries(names.map((name, at) => [name, rows.map((row) => row[at])]))),
  records: (rows, names = NAMES) =>
    JSON.stringify(rows.map((row) => Object.fromEntries(names.map((name, at) => [name, row[at]])))),
  shuffled: (rows) => {
    let state = 1;
    const random = () => (state = (state * 16807) % 2147483647) / 2147483647;
    return FORMS.csv(shuffled(rows, random));
  },
};

export function read(text, format = "csv", options = {}) {
  return readTable(new Blob([text]), format, options).then(({ table }) => table);
}

export function record(rows, more = {}) {
  return {
    schema_version: 1,
    status: "complete",
    rows,
    settings: { prompt: TEXTS.slice(0, 6).join(""), model: "fake" },
    dtypes: { results: "float32" },
    tokens: TEXTS.map((text, id) => ({ id, text })),
    prompt_length: 6,
    layers: [0, 1],
    steps: [0, 1].map((step) => ({ step, positions: 6 + step, max_l2: { Full: [99, 99] } })),
    ...more,
  };
}

/** The result of the first kind, words, as the page gets it; null as `more` leaves the run file out. */
export async function unitResult(more = {}, rows = unitRows()) {
  const files = [new File([FORMS.csv(rows)], "tower_results.csv")];
  if (more) files.push(new File([JSON.stringify(record(rows.length, more))], "tower_run.json"));
  const entries = [];
  await createOpener(readTable)(files, { onResult: (entry) => entries.push(entry) });
  return entries[0].load();
}
