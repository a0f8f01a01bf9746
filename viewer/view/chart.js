/** A small line chart over layers as SVG: arithmetic of its axes, and the drawing. */
import { drawn } from "./element.js";

const SIZE = { width: 440, height: 230, left: 58, right: 12, top: 12, bottom: 38 }; // near its size on the page, so that 12 px of text stay legible

/** Round numbers from `low` to `high`, both included or passed: steps of 1, 2 or 5 times a power of ten. */
export function ticks(low, high, most = 5) {
  if (!(high > low)) return [low];
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough * (1 - 1e-9));
  const from = Math.ceil(low / step - 1e-9);
  const to = Math.floor(high / step + 1e-9);
  return Array.from({ length: to - from + 1 }, (_, index) => Number(((from + index) * step).toPrecision(12)));
}

/** The path of a line through places; it breaks where a value is NaN, and a value alone is a dot. */
export function pathOf(values, x, y) {
  let path = "";
  for (let place = 0; place < values.length; place++) {
    if (Number.isNaN(values[place])) continue;
    const begins = place === 0 || Number.isNaN(values[place - 1]);
    const point = `${round(x(place))} ${round(y(values[place]))}`;
    const alone = begins && (place + 1 === values.length || Number.isNaN(values[place + 1]));
    path += `${begins ? "M" : "L"}${point}${alone ? "h0.01" : ""}`;
  }
  return path;
}

function round(value) {
  return Math.round(value * 10) / 10;
}

/**
 * @param {{values: ArrayLike<number>, style: {colour: string, dash: string}}[]} lines   one value for each layer
 * @param {number[]} layers
 * @param {string} axis   what the values are
 * @param {string} name   for those who do not see it
 * @param {string} row    what a layer is called
 */
export function chart(lines, layers, axis, name, row = "layer") {
  const { width, height, left, right, top, bottom } = SIZE;
  const [low, high] = range(lines);
  const x = (place) => left + ((place + 0.5) / layers.length) * (width - left - right);
  const y = (value) => top + (1 - (value - low) / (high - low)) * (height - top - bottom);
  const every = Math.ceil(layers.length / 12);
  const labelled = layers.flatMap((layer, place) => (place % every === 0 ? [[layer, place]] : []));
  return drawn(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name, class: "chart" },
    ...ticks(low, high).flatMap((value) => [
      drawn("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: value === 0 ? "axis" : "grid" }),
      drawn("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)),
    ]),
    ...labelled.map(([layer, place]) =>
      drawn("text", { x: x(place), y: height - bottom + 16, "text-anchor": "middle" }, String(layer)),
    ),
    drawn("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, row),
    drawn(
      "text",
      { transform: `translate(12 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" },
      axis,
    ),
    ...lines.map(({ values, style }) =>
      drawn("path", {
        d: pathOf(values, x, y),
        stroke: style.colour,
        "stroke-dasharray": style.dash || null,
        class: "line",
      }),
    ),
  );
}

/** From 0, or from the least where values are signed, to the largest; never empty. */
function range(lines) {
  let [low, high] = [0, 0];
  for (const { values } of lines) {
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low === high ? [0, 1] : [low, high];
}
