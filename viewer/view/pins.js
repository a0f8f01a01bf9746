/** Pinned tokens: how each is told apart, and their list. */
import { placed } from "./columns.js";
import { drawn, element } from "./element.js";
import { header } from "./words.js";

/** Colours that the colour-blind tell apart, readable on light and dark, and dashes for those who see none. */
const STYLES = [
  ["#0072b2", ""],
  ["#d55e00", "7 3"],
  ["#009e73", "2 3"],
  ["#cc79a7", "10 3 2 3"],
  ["#b8860b", "4 4"],
  ["#56b4e9", "12 4"],
  ["#8a5fbf", "2 6"],
  ["#888888", "6 2 2 2 2 2"],
];

/** The look of a pin by its place in the list: {colour, dash}. */
export function pinStyle(index) {
  const [colour, dash] = STYLES[index % STYLES.length];
  return { colour, dash };
}

/** The pins with a token added, or taken out where it was in. */
export function pinToggled(pins, token) {
  return pins.includes(token) ? pins.filter((pin) => pin !== token) : [...pins, token];
}

/** A short piece of a pin's line. */
export function sample({ colour, dash }) {
  const line = drawn("line", {
    x1: 1,
    y1: 5,
    x2: 33,
    y2: 5,
    stroke: colour,
    "stroke-width": 2.5,
    "stroke-dasharray": dash || null,
  });
  return drawn("svg", { width: 34, height: 10, "aria-hidden": "true" }, line);
}

/**
 * The list of pins: line, token, what `about` says of it, and a button that takes it out.
 * @param {HTMLElement} list   an <ul>
 * @param {{token: object, index: number, style: object, about: string}[]} entries
 * @param {(index: number) => void} remove
 */
export function showPins(list, entries, remove) {
  list.replaceChildren(
    ...entries.map(({ token, index, style, about }) => {
      const name = `${header(token.text, 40)} at ${placed(token)}`;
      const out = element(
        "button",
        { type: "button", class: "remove", "aria-label": `Remove pin ${name}`, click: () => remove(index) },
        "×",
      );
      const text = element("bdi", { class: "pin-token" }, header(token.text, 40));
      return element(
        "li",
        {},
        sample(style),
        " ",
        text,
        ` at ${placed(token)}`,
        element("span", { class: "muted" }, about),
        out,
      );
    }),
  );
}
