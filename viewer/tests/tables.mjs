/** Tables as text, for tests of the readers. */

export const COLUMNS = [
  "generation_step",
  "layer",
  "token_masked",
  "token_position",
  "variant",
  "l2_distance",
  "cosine_distance",
];
export const HOSTILE = [
  "</script>",
  "<img src=x onerror=alert(1)>",
  '"',
  "a,b",
  "\n",
  "\r",
  "\r\n",
  "",
  "NA",
  "null",
  "שלום",
  "🙂",
  "\u2028",
  "\ufeff",
  "x".repeat(10_000),
  "\\",
  "\t",
];

/** Rows of a small run: step k has `words.length + k` tokens; distances are floats of few digits, the first undefined. */
export function rowsOf({
  words = ["The", " cat", " sat"],
  steps = 2,
  layers = [0, 1],
  variants = ["Full", "Attn", "Head_0", "Head_10", "Head_2"],
} = {}) {
  const rows = [];
  for (let step = 0; step < steps; step++) {
    for (const variant of variants) {
      for (const layer of layers) {
        for (let position = 0; position < words.length + step; position++) {
          const size = rows.length % 7 === 5 ? 1e-8 : 1; // some are written with an exponent
          const value = rows.length % 7 === 3 ? null : Math.fround((((rows.length * 37) % 101) / 8) * size);
          rows.push([
            step,
            layer,
            words[position] ?? " more",
            position,
            variant,
            value,
            value === null ? null : Math.fround(value / 100),
          ]);
        }
      }
    }
  }
  return rows;
}

const quote = (text) => `"${text.replaceAll('"', '""')}"`;

/** As this tool writes it: texts quoted, numbers not, undefined empty. `order` names the columns. */
export function csvOf(rows, { order = COLUMNS, end = "\n", mark = "", index = false, quoteAll = false } = {}) {
  const shown = (value) =>
    value === null ? "" : typeof value === "string" || quoteAll ? quote(String(value)) : String(value);
  const lines = rows.map((row, number) =>
    [...(index ? [number] : []), ...order.map((name) => row[COLUMNS.indexOf(name)])].map(shown).join(","),
  );
  return mark + [[...(index ? [""] : []), ...order].join(","), ...lines].map((line) => line + end).join("");
}

export function columnsOf(rows, order = COLUMNS) {
  return Object.fromEntries(order.map((name) => [name, rows.map((row) => row[COLUMNS.indexOf(name)])]));
}

export function recordsOf(rows, order = COLUMNS) {
  return rows.map((row) => Object.fromEntries(order.map((name) => [name, row[COLUMNS.indexOf(name)]])));
}

/** A table's rows again, ordered by step, variant, layer, position; undefined distances null. */
export function rowsIn(table) {
  const rows = [];
  table.steps.forEach((step, stepIndex) =>
    table.variants.forEach((variant, variantIndex) => {
      const { l2, cosine, absent } = table.blocks[stepIndex][variantIndex];
      const { positions, codes } = table.tokens[stepIndex];
      for (let cell = 0; cell < l2.length; cell++) {
        if (absent?.[cell]) continue;
        const [row, col] = [Math.floor(cell / positions.length), cell % positions.length];
        const number = (value) => (Number.isNaN(value) ? null : value);
        rows.push([
          step,
          table.layers[row],
          table.words[codes[col]],
          positions[col],
          variant,
          number(l2[cell]),
          number(cosine[cell]),
        ]);
      }
    }),
  );
  return rows;
}

/** In the order of a table: Head_2 before Head_10. */
export function inOrder(rows) {
  const rank = (variant) => ["Full", "Attn"].indexOf(variant) + 1 || 3 + Number(variant.slice(5));
  return [...rows].sort(
    (one, other) => one[0] - other[0] || rank(one[4]) - rank(other[4]) || one[1] - other[1] || one[3] - other[3],
  );
}

export function shuffled(items, random) {
  const mixed = [...items];
  for (let last = mixed.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [mixed[last], mixed[other]] = [mixed[other], mixed[last]];
  }
  return mixed;
}
