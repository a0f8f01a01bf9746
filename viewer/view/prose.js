/** What the running text is made of: tokens one by one, an image's tokens folded into one chip, in chunks. */

/**
 * @typedef {{token: number}|{image: number, from: number, to: number, rows: number, cols: number}} Piece
 *   a token by its index, or the vision tokens from..to (exclusive) of one image
 */

/**
 * @param {object[]} tokens   as `result.tokens` gives them
 * @param {object[]} images   as `result.images`; a grid given there is the fold's, else the tokens' own extent
 * @returns {Piece[]} in order; an image whose tokens stand apart has one fold for each stretch
 */
export function folded(tokens, images = []) {
  const pieces = [];
  for (let token = 0; token < tokens.length; token++) {
    const { type, image, row, col } = tokens[token];
    const last = pieces.at(-1);
    if (type !== "vision") {
      pieces.push({ token });
    } else if (last?.image === image && last.to === token) {
      last.to = token + 1;
      last.rows = Math.max(last.rows, row + 1);
      last.cols = Math.max(last.cols, col + 1);
    } else {
      pieces.push({ image, from: token, to: token + 1, rows: row + 1, cols: col + 1 });
    }
  }
  for (const piece of pieces) {
    const grid = piece.image === undefined ? null : images[piece.image]?.grid;
    if (grid) [piece.rows, piece.cols] = grid;
  }
  return pieces;
}

/** Chunks of about `size` pieces; each ends where a line ends, if one does in its last half. */
export function chunks(pieces, tokens, size = 400) {
  const found = [];
  for (let from = 0; from < pieces.length; ) {
    let to = Math.min(pieces.length, from + size);
    if (to < pieces.length) {
      for (let end = to; end > from + size / 2; end--) {
        const { token } = pieces[end - 1];
        if (token === undefined || !tokens[token].text.includes("\n")) continue;
        to = end;
        break;
      }
    }
    found.push(pieces.slice(from, to));
    from = to;
  }
  return found;
}

/**
 * One colour for each token, over the layers.
 *
 * "max" is the brightest cell of the token, "mean" the mean of its cells' brightness, both after scaling: raw distances
 * of different layers have different units. A cell that is flat counts as 0, one that is undefined or absent not at all.
 *
 * @param {(layer: number, token: number) => number|string} shade   0..255, or "flat", "undefined", "excluded", "absent"
 * @param {{rows: number, cols: number}} size
 * @param {number|"max"|"mean"} choice   a layer's index, or over all layers
 * @returns {{shades: (number|string)[], layers: Int32Array}} for each token; `layers`: the layer of its brightest cell
 */
export function overLayers(shade, { rows, cols }, choice) {
  const shades = new Array(cols);
  const layers = new Int32Array(cols);
  for (let token = 0; token < cols; token++) {
    if (typeof choice === "number") {
      shades[token] = shade(choice, token);
      layers[token] = choice;
      continue;
    }
    let [sum, count, most, best, other] = [0, 0, -1, 0, "absent"];
    for (let layer = 0; layer < rows; layer++) {
      const drawn = shade(layer, token);
      if (drawn === "excluded" || (drawn === "undefined" && other === "absent")) other = drawn;
      if (typeof drawn === "string" && drawn !== "flat") continue;
      const brightness = drawn === "flat" ? 0 : drawn;
      count++;
      sum += brightness;
      if (brightness > most) [most, best] = [brightness, layer];
      if (drawn === "flat" && other !== "excluded") other = "flat";
    }
    shades[token] = count === 0 || (most === 0 && other === "flat") ? other : Math.round(choice === "max" ? most : sum / count);
    layers[token] = best;
  }
  return { shades, layers };
}
