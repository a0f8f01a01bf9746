/** A small made-up run, the same each time, for tests of panels. */
import { makeResult } from "../read/result.js";

const WORDS = ["The", " capital", " of", " France", " is", " Paris", ".", "\n", ' "quoted"', "</script>", "", " שלום"];

/** Numbers in [0, 1), the same for the same seed. */
export function randomNumbers(seed = 1) {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/**
 * Step k has `tokens + k` tokens. Position 0 is large, as an attention sink is.
 * nan: layer 0 of every variant is undefined. absent: the last layer of Head_0 has no rows. run: with a run record.
 */
export function fakeResult({
  steps = 2,
  layers = 3,
  tokens = 6,
  heads = 2,
  nan = false,
  absent = false,
  run = true,
  name = "fake",
} = {}) {
  const variants = ["Full", "Attn", ...Array.from({ length: heads }, (_, head) => `Head_${head}`)];
  const random = randomNumbers();
  const blocks = range(steps).map((step) =>
    variants.map((variant) => block(layers, tokens + step, random, nan, absent && variant === "Head_0")),
  );
  const table = {
    steps: range(steps),
    variants,
    layers: range(layers),
    words: WORDS,
    tokens: range(steps).map((step) => ({
      positions: Int32Array.from(range(tokens + step)),
      codes: Int32Array.from(range(tokens + step), (position) => position % WORDS.length),
      places: null,
    })),
    blocks,
    rows: steps * variants.length * layers * tokens + (variants.length * layers * steps * (steps - 1)) / 2,
  };
  const sources = [{ file: `${name}_results.csv`, format: "csv", bytes: 1000 }];
  return makeResult(table, { id: name, name, sources, run: run ? fakeRun(table, tokens) : null, notes: [] });
}

function range(length) {
  return Array.from({ length }, (_, index) => index);
}

function block(layers, tokens, random, nan, lastLayerAbsent) {
  const l2 = new Float32Array(layers * tokens);
  const cosine = new Float32Array(layers * tokens);
  const missing = lastLayerAbsent ? new Uint8Array(layers * tokens) : null;
  for (let cell = 0; cell < l2.length; cell++) {
    const layer = Math.floor(cell / tokens);
    const sink = cell % tokens === 0 ? 20 : 1;
    const value = random();
    const undefinedHere = (nan && layer === 0) || (missing && layer === layers - 1);
    l2[cell] = undefinedHere ? NaN : sink * value ** 3 * (layer + 1);
    cosine[cell] = undefinedHere ? NaN : value ** 3;
    if (missing && layer === layers - 1) missing[cell] = 1;
  }
  return { l2, cosine, absent: missing };
}

function fakeRun({ steps, variants, layers, words, tokens: stepTokens, blocks }, promptLength) {
  const perCell = (make) => (step) =>
    Object.fromEntries(variants.map((name, variant) => [name, layers.map((layer) => make(step, variant, layer))]));
  const largest = (metric) => (step, variant, layer) => {
    const cols = stepTokens[step].positions.length;
    const row = blocks[step][variant][metric].subarray(layer * cols + 1, (layer + 1) * cols);
    return row.reduce((most, value) => (value > (most ?? -1) ? value : most), null);
  };
  const token = (id, probability) => ({ id, text: words[id % words.length], probability });
  return {
    schema_version: 1,
    status: "complete",
    name: "fake",
    settings: { prompt: "The capital of France is", model: "fake" },
    dtypes: { results: "float32" },
    tokens: Array.from({ length: promptLength + steps.length }, (_, id) => ({ id, text: words[id % words.length] })),
    prompt_length: promptLength,
    generated_text: " Paris.",
    variants,
    layers,
    skipped_layers: [],
    steps: steps.map((step) => ({
      step,
      positions: promptLength + step,
      top: [0.5, 0.25, 0.125, 0.0625, 0].map((probability, rank) => token(step + rank + 5, probability)),
      next: token(step + 5, 0.5),
      baseline_norm: perCell((_, variant, layer) => 10 + variant + layer)(step),
      noise_floor_l2: perCell(() => 1e-6)(step),
      noise_floor_cosine: perCell(() => 1e-14)(step),
      max_l2: perCell(largest("l2"))(step),
      max_cosine: perCell(largest("cosine"))(step),
    })),
  };
}
