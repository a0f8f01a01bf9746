/** A heatmap as PNG: all of it, not only what is on the screen. */
import { startAt } from "../view/columns.js";
import { draw } from "./layout.js";
import { extent } from "./svg.js";

const FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";
/** Small pictures are drawn at twice their size, to be sharp in print. */
const SHARP_BELOW = 2e6;

/**
 * @param {import("./layout.js").Picture} picture
 * @param {object} planned   what `plan` gave
 * @returns {Promise<Blob>}
 */
export function pngBlob(picture, planned) {
  const scale = planned.width * planned.height < SHARP_BELOW && Math.max(planned.width, planned.height) < 8000 ? 2 : 1;
  const canvas = document.createElement("canvas");
  canvas.width = planned.width * scale;
  canvas.height = planned.height * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, planned.width, planned.height);
  draw(canvasPen(context, picture), picture, planned);
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("this browser could not make so large a picture"))),
      "image/png",
    );
  });
}

/** The data URI of a picture with one pixel for each cell of the tokens from..to. */
export function rasterUri(picture, from, to) {
  return raster(picture, from, to).toDataURL("image/png");
}

/** A token that is several cells wide has as many pixels. */
function raster({ layers, shade, colours, grounds, starts = null, transposed }, from, to) {
  const canvas = document.createElement("canvas");
  const begin = startAt(starts, from);
  const [along, across] = [startAt(starts, to) - begin, layers.length];
  [canvas.width, canvas.height] = transposed ? [across, along] : [along, across];
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const palette = colours.map(pixel);
  const others = Object.fromEntries(Object.entries(grounds).map(([name, colour]) => [name, pixel(colour)]));
  for (let layer = 0; layer < across; layer++) {
    for (let token = from; token < to; token++) {
      const drawn = shade(layer, token);
      for (let at = startAt(starts, token) - begin; at < startAt(starts, token + 1) - begin; at++)
        pixels[transposed ? at * across + layer : layer * along + at] =
          typeof drawn === "number" ? palette[drawn] : others[drawn];
    }
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

/** #rrggbb as the 32 bits of an opaque pixel, on machines that store the lowest byte first (all that browsers run on). */
function pixel(colour) {
  const bits = Number.parseInt(colour.slice(1), 16);
  return (0xff000000 | ((bits & 0xff) << 16) | (bits & 0xff00) | (bits >> 16)) >>> 0;
}

function canvasPen(context, picture) {
  const patterns = Object.fromEntries(
    Object.entries(picture.grounds).map(([name, ground]) => [name, pattern(context, name, ground)]),
  );
  const shade = (x, y, width, height, name) => {
    context.fillStyle = patterns[name];
    context.fillRect(x, y, width, height);
  };
  return {
    shade,
    bar(x, y, width, height) {
      const gradient = context.createLinearGradient(x, 0, x + width, 0);
      picture.colours.forEach((colour, index) => gradient.addColorStop(index / 255, colour));
      context.fillStyle = gradient;
      context.fillRect(x, y, width, height);
    },
    text: (x, y, text, about) => text && drawText(context, x, y, text, about),
    cells(band, cell) {
      const { layers, transposed } = picture;
      const small = raster(picture, band.from, band.to);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, band.x, band.y, small.width * cell, small.height * cell);
      if (cell < 3) return; // too small for a pattern to be seen
      for (let layer = 0; layer < layers.length; layer++) {
        for (let token = band.from; token < band.to; token++) {
          const drawn = picture.shade(layer, token);
          if (typeof drawn === "number" || drawn === "flat" || drawn === "absent") continue;
          const [across, [along, long]] = [layer * cell, extent(picture.starts, token, band, cell)];
          const [x, y, width, height] = transposed ? [across, along, cell, long] : [along, across, long, cell];
          shade(band.x + x, band.y + y, width, height, drawn);
        }
      }
    },
  };
}

function drawText(context, x, y, text, { size, anchor = "start", turned = false, weight = 400, struck = false }) {
  context.save();
  context.translate(x, y);
  if (turned) context.rotate(-Math.PI / 2);
  context.font = `${weight} ${size}px ${FONT}`;
  context.fillStyle = "#111111";
  context.direction = "ltr";
  context.textAlign = { start: "left", middle: "center", end: "right" }[anchor];
  context.fillText(text, 0, 0);
  if (struck) {
    const wide = context.measureText(text).width;
    context.fillRect(anchor === "end" ? -wide : 0, -size * 0.3, wide, 1);
  }
  context.restore();
}

/** The same signs as in the SVG: lines for what is left out, dots for undefined. */
function pattern(context, name, ground) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.fillStyle = ground;
  pen.fillRect(0, 0, 6, 6);
  pen.strokeStyle = pen.fillStyle = "#777777";
  if (name === "excluded") {
    pen.stroke(new Path2D("M-1 1 1 -1M0 6 6 0M5 7 7 5"));
  } else if (name === "undefined") {
    pen.fillRect(2, 2, 2, 2);
  }
  return context.createPattern(tile, "repeat");
}
