/** Numbers as they are read. */

/** At most `digits` significant digits, without trailing zeros; "undefined" for NaN. */
export function brief(value, digits = 3) {
  if (Number.isNaN(value)) return "undefined";
  const rounded = Number(value.toPrecision(digits));
  const size = Math.abs(rounded);
  return size !== 0 && (size < 1e-4 || size >= 1e7) ? exponent(rounded, digits) : String(rounded);
}

function exponent(value, digits) {
  return value
    .toExponential(digits - 1)
    .replace(/\.?0+e/, "e")
    .replace("e+", "e");
}

/** With its sign and two decimals: -4.349 -> "−4.35". */
export function signed(value) {
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
}

/** A share of 1 as a percentage of at least two digits: 0.9998 -> "99.98 %". */
export function percent(share) {
  const hundred = 100 * share;
  if (hundred === 0 || hundred === 100) return `${hundred} %`;
  if (hundred < 0.01) return "< 0.01 %";
  if (hundred > 99.99) return "> 99.99 %";
  return `${hundred < 1 ? Number(hundred.toPrecision(1)) : hundred > 99 ? hundred.toFixed(2) : hundred.toFixed(1)} %`;
}

/** A whole number in groups of three digits; what Intl takes 4 ms for when it is first asked. */
export function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}
