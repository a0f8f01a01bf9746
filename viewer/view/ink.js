/** Text that can be read on any colour. */

const BLACK = "#000";
const WHITE = "#fff";

/** Relative luminance of an sRGB colour of 0..255, in [0, 1], as WCAG 2 defines it. */
export function luminance(red, green, blue) {
  const [r, g, b] = [red, green, blue].map((band) => {
    const share = band / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Black or white, whichever stands out more: their contrasts, (L + 0.05) / 0.05 and 1.05 / (L + 0.05), meet at L = 0.179. */
export function inkOn(red, green, blue) {
  return luminance(red, green, blue) > Math.sqrt(1.05 * 0.05) - 0.05 ? BLACK : WHITE;
}
