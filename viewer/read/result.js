/**
 * One run as every panel sees it: a table, dense by (generation step, variant), and what its run file adds.
 *
 * All arguments named step, variant and layer are indices into `steps`, `variants` and `layers`, never their values.
 */

import { named } from "./errors.js";
import { stretches } from "./units.js";

const MOST_KEPT = 400e6; // bytes of blocks read on demand
const MOST_TOLD = 5; // units of a knock-out; a run file names three
const SMALLEST_TOLD = 0.005; // nats: below it a change reads 0.00
const TOKEN_LISTS_KEPT = 16; // one for each step lately shown; 16,000 tokens take about 2 MB

const FIELDS = {
  l2: { floor: "noise_floor_l2", largest: "max_l2" },
  cosine: { floor: "noise_floor_cosine", largest: "max_cosine" },
};

/**
 * @typedef {object} Block   one variant at one step
 * @property {Float32Array|Float64Array} l2      (layer, token), row-major; NaN where undefined or absent
 * @property {Float32Array|Float64Array} cosine  the same for cosine distances
 * @property {Uint8Array|null} absent            1 where the table has no such row; null where it has them all
 * @property {Float32Array|Float64Array} [interaction]   the same of pairs' interactions, where the table has them
 *
 * @typedef {object} StepTokens   the tokens that a step's rows mask, ascending by position, or its units of one kind
 * @property {Int32Array} positions              of a unit its first
 * @property {Int32Array} codes                  indices into `words`
 * @property {Int32Array|null} places            (token, 3): image, patch row, patch column; -1 in each for text; null if all text
 * @property {string[]|null} [where]             a unit's positions, such as 3-5 or 3,7
 *
 * @typedef {object} Table   what the readers give; plain data and typed arrays, so that a worker can hand it over
 * @property {number[]} steps      generation steps, ascending
 * @property {string[]} variants   Full, Attn, Head_0, Head_1, ...
 * @property {number[]} layers     layer numbers, ascending
 * @property {string[]} words      every token text, once
 * @property {StepTokens[]} tokens one for each step
 * @property {(Block|null)[][]} blocks [step][variant]; null where not read yet
 * @property {number} rows
 * @property {{kind: string, tokens: StepTokens[], blocks: (Block|null)[][]}[]} [parts]   where rows are units: one for each
 *   kind, each with tokens and blocks of its own; the table's are those of the first
 * @property {boolean} [interaction]   pairs have interactions
 * @property {boolean} [unended]   the file's last line has no end
 */

/**
 * The result of a table's first kind of units; `ofKind` gives those of the others.
 * @param {Table} table
 * @param {{id: string, name: string, sources: {file: string, format: string, bytes: number}[], run?: object|null,
 *   notes?: string[], loadBlock?: (step: number, variant: number, kind: string) => Promise<Block>, close?: () => void}} about
 *   `loadBlock` reads what `blocks` has not; `close` frees what it reads from.
 */
export function makeResult(table, about) {
  const parts = table.parts ?? [{ kind: "tokens" }];
  const kinds = parts.map(({ kind }) => kind);
  const made = new Map();
  const ofKind = (kind) => {
    const part = parts.find((one) => one.kind === kind) ?? parts[0];
    if (!made.has(part)) made.set(part, resultOf({ ...table, ...part }, { ...about, kind: part.kind, kinds, ofKind }));
    return made.get(part);
  };
  return ofKind(kinds[0]);
}

function resultOf(table, about) {
  const { steps, variants, layers, blocks } = table;
  const facts = runFacts(about.run ?? null, table);
  const tokenLists = new Map();

  function tokens(step) {
    if (!tokenLists.has(step)) {
      if (tokenLists.size >= TOKEN_LISTS_KEPT) tokenLists.delete(tokenLists.keys().next().value);
      tokenLists.set(step, tokenList(table.tokens[step], table.words, about.kind));
    }
    return tokenLists.get(step);
  }

  function peek(step, variant, metric) {
    const block = blocks[step]?.[variant];
    if (!block) return null;
    const cols = table.tokens[step].positions.length;
    block[metric] ??= new block.l2.constructor(block.l2.length).fill(NaN); // no pair of it interacts
    return { values: block[metric], rows: layers.length, cols, absent: block.absent };
  }

  const loading = new Map();
  async function matrix(step, variant, metric) {
    if (!blocks[step]?.[variant]) {
      const key = `${step} ${variant}`;
      if (!loading.has(key))
        loading.set(
          key,
          load(step, variant).finally(() => loading.delete(key)),
        );
      await loading.get(key);
    }
    return peek(step, variant, metric);
  }

  const kept = []; // places of blocks that can be read again, the oldest first
  let keptBytes = 0;
  async function load(step, variant) {
    const block = await about.loadBlock(step, variant, about.kind).catch((error) => {
      throw named(error, about.sources[0].file);
    });
    blocks[step][variant] = block;
    kept.push([step, variant]);
    keptBytes += 2 * block.l2.byteLength;
    while (keptBytes > MOST_KEPT && kept.length > 1) {
      const [oldStep, oldVariant] = kept.shift();
      keptBytes -= 2 * blocks[oldStep][oldVariant].l2.byteLength;
      blocks[oldStep][oldVariant] = null;
    }
  }

  return {
    id: about.id,
    name: about.name,
    sources: about.sources,
    run: about.run ?? null,
    notes: about.notes ?? [],
    rows: table.rows,
    kind: about.kind,
    kinds: about.kinds,
    ofKind: about.ofKind,
    interacts: about.kind === "pairs" && interacts(table),
    steps,
    variants,
    layers,
    tokens,
    matrix,
    peek,
    close: about.close ?? (() => {}),
    ...facts,
  };
}

function tokenList({ positions, codes, places, where = null }, words, kind) {
  return Array.from(positions, (position, index) => {
    const vision = places !== null && places[3 * index] >= 0;
    const [image, row, col] = vision ? placeOf(places, 3 * index) : [null, null, null];
    const token = { text: words[codes[index]], position, type: vision ? "vision" : "text", image, row, col };
    return where === null ? token : { ...token, ...unitOf(kind, where[index]) };
  });
}

/** Image, row and column; a whole picture is no patch of it. */
function placeOf(places, at) {
  return Array.from(places.subarray(at, at + 3), (value) => (value < 0 ? null : value));
}

/** What a unit has beside what a token has: kind, positions as text, stretches of them, and how many they are. */
function unitOf(unit, where) {
  const ranges = stretches(where);
  const count = ranges.reduce((sum, [first, last]) => sum + last - first + 1, 0);
  return { unit, where, ranges, count };
}

function interacts({ interaction, blocks }) {
  return interaction === true || blocks.flat().some((block) => Boolean(block?.interaction));
}

/** What the run record says of the table's steps, variants and layers; null for all that it does not say or says wrongly. */
function runFacts(run, { steps, variants, layers, tokens, parts }) {
  const positions = tokens[0]?.positions.length ?? 0;
  const records = list(run?.steps);
  const ofStep = steps.map((step, index) => {
    const record = records[index]?.step === step ? records[index] : records.find((other) => other?.step === step);
    return record ?? null;
  });
  const places = list(run?.layers);
  const layerPlace = layers.map((layer) => places.indexOf(layer));
  const perCell = (field, step, variant, layer) =>
    field && number(ofStep[step]?.[field]?.[variants[variant]]?.[layerPlace[layer]]);

  return {
    floor: (step, variant, layer, metric) => perCell(FIELDS[metric]?.floor ?? null, step, variant, layer),
    norm: (step, variant, layer) => perCell("baseline_norm", step, variant, layer),
    maxima: (step, variant, layer, metric) => perCell(parts ? null : FIELDS[metric].largest, step, variant, layer), // a run file's are those of all kinds together
    top(step) {
      const top = list(ofStep[step]?.top).map(likelyToken).filter(Boolean);
      return top.length ? top : null;
    },
    generated: (step) => likelyToken(ofStep[step]?.next),
    seen: (step) =>
      list(run?.tokens)
        .slice(0, number(ofStep[step]?.positions) ?? 0)
        .map((token) => String(token?.text ?? "")),
    promptLength: Number.isInteger(run?.prompt_length) ? run.prompt_length : null,
    images: list(run?.images).map(image),
    knockout: knockoutFacts(run),
    part: run?.part === "encoder" || (!run && pictureFirst(tokens[0])) ? "encoder" : "decoder",
    measured: Number.isInteger(run?.measured_position) ? run.measured_position : null,
    each: eachMeasured(run?.each_measured, layers.length, positions),
  };
}

/** What the whole answer rests on and where the final position reads it; no units in a run without knock-outs. */
function knockoutFacts(run) {
  const first = likelyToken(list(run?.steps)[0]?.next);
  return {
    answer: typeof run?.generated_text === "string" ? run.generated_text : (first?.text ?? ""),
    probability: first?.probability ?? null,
    restsOn: unitsTold(run?.knockout?.rests_on),
    against: unitsTold(run?.knockout?.against),
    readAt: unitsTold(run?.knockout?.read_at),
  };
}

/** @returns {{text: string, change: number, ranges: number[][]}[]} `ranges`: of positions; none where they are not told */
function unitsTold(units) {
  return list(units)
    .slice(0, MOST_TOLD)
    .flatMap((unit) => {
      const change = number(unit?.logprob_change);
      if (typeof unit?.text !== "string" || !(Math.abs(change) >= SMALLEST_TOLD)) return [];
      return {
        text: unit.text,
        change,
        ranges: (typeof unit.positions === "string" && stretches(unit.positions)) || [],
      };
    });
}

/** Is position 0 a picture's cell? In the decoder a token stands before each picture: such a table is the encoder's. */
function pictureFirst(first) {
  return first?.positions[0] === 0 && first.places !== null && first.places[0] >= 0;
}

/**
 * Full's L2 distances (layer, token) at one measured cell of an encoder's run, where its run file kept them for each.
 * @returns {((token: number) => Float32Array)|null} the same array for the same token, lately
 */
function eachMeasured(kept, layers, cells) {
  const [rows, measured, cols] = list(kept?.shape);
  if (kept?.variant !== "Full" || kept.distance !== "l2_distance" || typeof kept.float32 !== "string") return null;
  if (!(cells > 0 && rows === layers && measured === cells && cols === cells)) return null;
  if (kept.float32.length !== 4 * Math.ceil((4 * rows * cells * cells) / 3)) return null;
  let all = null;
  const made = new Map();
  return (token) => {
    all ??= floats(kept.float32);
    if (!made.has(token)) {
      const own = new Float32Array(rows * cols);
      for (let row = 0; row < rows; row++)
        own.set(all.subarray((row * cells + token) * cols, (row * cells + token + 1) * cols), row * cols);
      if (made.size >= TOKEN_LISTS_KEPT) made.delete(made.keys().next().value);
      made.set(token, own);
    }
    return made.get(token);
  };
}

function floats(base64) {
  return new Float32Array(Uint8Array.from(atob(base64), (one) => one.charCodeAt(0)).buffer);
}

function likelyToken(token) {
  if (typeof token?.text !== "string") return null;
  return { id: number(token.id), text: token.text, probability: number(token.probability) };
}

/** A picture of the run file; only pictures that lie in the file itself are shown. */
function image(value) {
  const uri =
    typeof value?.uri === "string" && /^data:image\/(png|jpeg|webp|gif);base64,/.test(value.uri) ? value.uri : null;
  const pair = (sizes) => (list(sizes).length >= 2 && sizes.every((size) => number(size) > 0) ? sizes : null);
  return {
    width: number(value?.width),
    height: number(value?.height),
    resized: pair(value?.resized),
    grid: pair(value?.grid),
    uri,
  };
}

function list(value) {
  return Array.isArray(value) ? value : [];
}

function number(value) {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
