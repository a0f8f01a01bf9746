/** A heatmap as SVG: text stays text, cells are rectangles, or one small raster image where they are too many. */
import { startAt } from "../view/columns.js";
import { draw, plan } from "./layout.js";

/** A file with more rectangles than this is slow in every editor. */
export const MOST_RECTANGLES = 50_000;
const NO_LIMITS = { side: 100_000, area: Infinity };
const FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";

const ENTITIES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** Text inside an element or an attribute. */
export function escaped(text) {
  return text.replace(/[&<>"]/g, (sign) => ENTITIES[sign]);
}

/**
 * @param {import("./layout.js").Picture} picture
 * @param {(from: number, to: number) => string} raster   a data URI with one pixel for each cell of these tokens
 */
export function svgText(picture, raster) {
  const planned = plan(picture, NO_LIMITS);
  const pen = svgPen(picture, picture.layers.length * picture.tokens.length > MOST_RECTANGLES ? raster : null);
  draw(pen, picture, planned);
  const size = `width="${planned.width}" height="${planned.height}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} viewBox="0 0 ${planned.width} ${planned.height}" role="img">`,
    `<title>${escaped(picture.title)}</title>`,
    `<defs>${gradient(picture.colours)}${Object.entries(picture.grounds).map(pattern).join("")}</defs>`,
    `<rect ${size} fill="#ffffff"/>`,
    `<g font-family="${FONT}" fill="#111111">`,
    ...pen.parts,
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

function svgPen(picture, raster) {
  const parts = [];
  const rect = (x, y, width, height, fill) =>
    parts.push(`<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${fill}"/>`);
  return {
    parts,
    shade: (x, y, width, height, name) => rect(x, y, width, height, `url(#${name})`),
    bar: (x, y, width, height) => rect(x, y, width, height, "url(#palette)"),
    text: (x, y, text, about) => text && parts.push(textElement(x, y, text, about)),
    cells(band, cell) {
      parts.push('<g shape-rendering="crispEdges" stroke="none">');
      if (raster) {
        parts.push(image(picture, band, cell, raster(band.from, band.to)));
        hatched(picture, band, cell, rect);
      } else rectangles(picture, band, cell, rect);
      parts.push("</g>");
    },
  };
}

function rectangles({ layers, colours, shade, starts, transposed }, band, cell, rect) {
  for (let layer = 0; layer < layers.length; layer++) {
    for (let token = band.from; token < band.to; token++) {
      const drawn = shade(layer, token);
      const [across, [along, long]] = [layer * cell, extent(starts, token, band, cell)];
      const [x, y, width, height] = transposed ? [across, along, cell, long] : [along, across, long, cell];
      rect(band.x + x, band.y + y, width, height, typeof drawn === "number" ? colours[drawn] : `url(#${drawn})`);
    }
  }
}

/** A raster has one colour for each cell: the lines over what is left out, whole tokens, go over it. */
function hatched({ layers, shade, starts, transposed }, band, cell, rect) {
  const across = layers.length * cell;
  for (let token = band.from; token < band.to; token++) {
    if (shade(0, token) !== "excluded") continue;
    const [along, long] = extent(starts, token, band, cell);
    if (transposed) rect(band.x, band.y + along, across, long, "url(#excluded)");
    else rect(band.x + along, band.y, long, across, "url(#excluded)");
  }
}

/** Where a token begins in its band and how long it is, in pixels. */
export function extent(starts = null, token, { from }, cell) {
  const at = startAt(starts, token);
  return [(at - startAt(starts, from)) * cell, (startAt(starts, token + 1) - at) * cell];
}

function image({ layers, transposed }, band, cell, uri) {
  const [along, across] = [band.wide * cell, layers.length * cell];
  const [width, height] = transposed ? [across, along] : [along, across];
  return (
    `<image x="${band.x}" y="${band.y}" width="${width}" height="${height}" preserveAspectRatio="none"` +
    ` style="image-rendering: pixelated" href="${escaped(uri)}"/>`
  );
}

function textElement(x, y, text, { size, anchor = "start", turned = false, weight, title, struck }) {
  const place = turned
    ? `transform="translate(${round(x)} ${round(y)}) rotate(-90)"`
    : `x="${round(x)}" y="${round(y)}"`;
  const about =
    (anchor === "start" ? "" : ` text-anchor="${anchor}"`) +
    (weight ? ` font-weight="${weight}"` : "") +
    (struck ? ' text-decoration="line-through"' : "");
  const tip = title ? `<title>${escaped(title)}</title>` : "";
  return `<text ${place} font-size="${size}"${about} xml:space="preserve">${escaped(text)}${tip}</text>`;
}

function round(value) {
  return Math.round(value * 100) / 100;
}

function gradient(colours) {
  const stops = colours.flatMap((colour, index) =>
    index % 15 === 0 ? [`<stop offset="${index / 255}" stop-color="${colour}"/>`] : [],
  );
  return `<linearGradient id="palette">${stops.join("")}</linearGradient>`;
}

/** The same signs as on the screen: lines for what is left out, dots for undefined, nothing for absent. */
function pattern([name, ground]) {
  const sign = {
    excluded: '<path d="M-1 1 1 -1M0 6 6 0M5 7 7 5" stroke="#777777" stroke-width="1"/>',
    undefined: '<circle cx="3" cy="3" r="1" fill="#777777"/>',
  }[name];
  return `<pattern id="${name}" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="${ground}"/>${sign ?? ""}</pattern>`;
}
