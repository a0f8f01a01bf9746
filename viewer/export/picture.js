/** What is shown, as the exports need it: pictures are for paper, on a light ground. */
import { promptLabel } from "../read/run.js";
import { paletteOf } from "../view/colours.js";
import { inOrder, startsOf } from "../view/columns.js";
import { brief } from "../view/numbers.js";
import { FLAT, SHADE_NAMES } from "../view/scale.js";
import { valueName } from "../view/shown.js";
import { METRIC_NAMES } from "../view/state.js";
import { measuredApart, measuredWords, otherPlace, shownPlace } from "../view/view.js";
import { columnName, header, rowName } from "../view/words.js";

/** @returns {import("./layout.js").Picture} */
export function pictureOf(state, view) {
  const { scale, layers, tokens } = view;
  const { hex, grounds } = paletteOf(scale.signed ? "difference" : state.palette, false);
  const shade = (layer, token) => {
    const code = scale.code(layer, token);
    return code < FLAT ? code : SHADE_NAMES[code - FLAT];
  };
  return {
    title: titleOf(view.place),
    caption: captionOf(state, view),
    layers,
    tokens,
    starts: startsOf(tokens),
    shade,
    row: rowName(view.place),
    colours: hex,
    grounds: Object.fromEntries(SHADE_NAMES.map((name) => [name, grounds[name]])),
    ink: grounds.ink,
    struck: (token) => view.excludedMask[token] === 1,
    floored: view.floors.some((floor) => floor !== null),
    maxima: Array.from(scale.rowMax, (value) => (Number.isNaN(value) ? "" : brief(value))),
    legend: { name: valueName(state, view), low: scale.low, middle: scale.middle, high: scale.high },
    transposed: state.transposed,
  };
}

function titleOf(place) {
  const { result, step, variant } = place;
  return `${result.name}: ${measuredWords(place) || `step ${result.steps[step]}`}, ${result.variants[variant]}`;
}

function captionOf(state, view) {
  const against = view.scale.signed ? `, minus that of ${comparedWith(state)}${measuredThere(state)}` : "";
  const out = state.excluded.size ? ` Left out of the scale: ${positions(state.excluded)}.` : "";
  return `${METRIC_NAMES[state.metric]} when a ${columnName(view.place)} is masked${against}. ${view.scale.sentence}${out}${sourceOf(view.place)}`;
}

/** What the run file knows: the model, its prompt, and what comes next. */
function sourceOf({ result, step }) {
  const { model } = result.run?.settings ?? {};
  const prompt = promptLabel(result.run);
  const next = result.generated(step);
  const parts = [
    model && `Model: ${header(model, 80)}.`,
    prompt && `Prompt: ${header(prompt, 200)}.`,
    next && `Next token: "${header(next.text, 40)}".`,
  ];
  return parts
    .filter(Boolean)
    .map((part) => ` ${part}`)
    .join("");
}

/** Where the other was measured, if not where this one was. */
function measuredThere(state) {
  const there = otherPlace(state);
  return there && measuredApart(shownPlace(state), there) ? ` (${measuredWords(there)})` : "";
}

function comparedWith({ compare, result, otherResult }) {
  if (compare.kind === "run") return `run ${otherResult.name}`;
  return compare.kind === "step" ? `step ${result.steps[compare.other]}` : result.variants[compare.other];
}

function positions(excluded) {
  const sorted = inOrder(excluded);
  return `position${sorted.length > 1 ? "s" : ""} ${sorted.join(", ")}`;
}

/** A file's name without its ending: what is shown, in letters that every system takes. */
export function fileStem(state, place = shownPlace(state)) {
  const { result, step, variant, at } = place;
  const parts = [result.name, `step${result.steps[step]}`, result.variants[variant], state.metric];
  if (result.kind !== "tokens") parts.push(result.kind);
  if (typeof at === "number") parts.push(`at_${cellName(result, result.tokens(step)[at])}`);
  if (state.compare?.mode === "difference") parts.push("difference", comparedWith(state));
  return (
    parts
      .join("_")
      .replace(/[^\p{L}\p{N}._-]+/gu, "_")
      .replace(/^[._]+/, "")
      .slice(0, 120) || "heatmap"
  );
}

/** 3_5 for row 3, column 5; with the picture's number before it where there are several. */
function cellName({ images }, { image, row, col }) {
  return [...(images.length > 1 ? [image] : []), row, col].join("_");
}

/** What `csvPieces` writes of the view. */
export function csvOf(state, view) {
  const { result, step, variant, metric } = state;
  const alone = typeof view.place.at === "number"; // of one measured cell the result has no columns
  const own = (name) => (view.scale.signed || alone ? null : result.peek(step, variant, name));
  const columns = {
    l2: "l2_distance",
    cosine: "cosine_distance",
    relative: "relative_distance",
    interaction: "interaction_l2",
  };
  const more = alone
    ? `l2_distance_at_${view.tokens[view.place.at].position}`
    : view.scale.signed
      ? `${columns[metric]}_difference`
      : metric === "relative"
        ? columns.relative
        : null;
  const single = result.peek(step, variant, "l2")?.values instanceof Float32Array;
  return {
    step: result.steps[step],
    variant: result.variants[variant],
    layers: view.layers,
    tokens: view.tokens,
    absent: view.absent,
    l2: own("l2"),
    cosine: own("cosine"),
    interaction: result.interacts ? own("interaction") : null,
    more: more && { name: more, values: view.values, single },
  };
}
