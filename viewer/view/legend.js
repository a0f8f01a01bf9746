/** What the colours mean: metric, range, curve, and each sign that is not a colour. */
import { paletteOf } from "./colours.js";
import { element } from "./element.js";
import { METRIC_NAMES, currentView } from "./state.js";

const BAR = 256;
const SIGNS = [
  ["flat", "at or below the noise floor, as 0"],
  ["undefined", "undefined"],
  ["excluded", "left out of the scale"],
  ["absent", "not in the table"],
];
const SIGNED = { absent: "not in both" };
const KEYS = [
  "result",
  "step",
  "variant",
  "metric",
  "normalise",
  "curve",
  "palette",
  "dark",
  "excluded",
  "at",
  "compare",
  "otherResult",
  "reads",
];

export function createLegend(root, store) {
  const canvas = element("canvas", { width: BAR, height: 1, class: "legend-bar", role: "img" });
  const [low, middle, high] = ["low", "middle", "high"].map((name) => element("span", { class: `legend-${name}` }));
  const name = element("span", { class: "legend-name" });
  const sentence = element("span", { class: "legend-sentence" });
  const signs = element("span", { class: "legend-signs" });
  root.append(
    element(
      "div",
      { class: "legend-scale" },
      name,
      element("div", { class: "legend-ruler" }, canvas, element("div", { class: "legend-ends" }, low, middle, high)),
    ),
    sentence,
    signs,
  );
  const legend = { root, canvas, low, middle, high, name, sentence, signs };
  const update = (state, changed = null) =>
    (changed === null || KEYS.some((key) => changed.has(key))) && show(legend, state);
  store.subscribe(update);
  update(store.get());
}

function show(legend, state) {
  const view = currentView(state);
  legend.root.hidden = !view;
  if (!view) return;
  const { scale } = view;
  const palette = paletteOf(scale.signed ? "difference" : state.palette, state.dark);
  paintBar(legend.canvas, palette.packed);
  for (const part of ["low", "middle", "high", "sentence"]) legend[part].textContent = scale[part];
  legend.name.textContent = METRIC_NAMES[state.metric] + (scale.signed ? ": this minus the other" : "");
  legend.canvas.setAttribute("aria-label", `Colours from ${scale.low} to ${scale.high}`);
  const shown = SIGNS.filter(([sign]) => occurs(sign, view));
  legend.signs.replaceChildren(
    ...shown.map(([sign, text]) => {
      const swatch = element("span", { class: "swatch", "data-sign": sign });
      swatch.style.backgroundColor = palette.grounds[sign];
      return element("span", { class: "sign" }, swatch, ` ${(scale.signed && SIGNED[sign]) || text}`);
    }),
  );
}

function paintBar(canvas, packed) {
  const pen = canvas.getContext("2d");
  const image = pen.createImageData(BAR, 1);
  new Uint32Array(image.data.buffer).set(packed.subarray(0, BAR));
  pen.putImageData(image, 0, 0);
}

/** Is there such a cell? Looked for only where it costs nothing: undefined ones by the layers' maxima and a first look. */
function occurs(sign, view) {
  if (sign === "flat") return view.floors.some((floor) => floor !== null);
  if (sign === "excluded") return view.excludedMask.includes(1);
  if (sign === "absent") return view.absent !== null && view.absent.includes(1);
  return hasUndefined(view);
}

const known = new WeakMap(); // by a picture's values

function hasUndefined({ values, absent }) {
  if (!known.has(values))
    known.set(
      values,
      values.some((value, place) => value !== value && !(absent !== null && absent[place])),
    );
  return known.get(values);
}
