/** The keys, listed. */
import { element } from "./element.js";

const KEYS = [
  ["←  →", "generation step before, after (also , and .)"],
  ["p", "play the steps, or pause"],
  ["v  V", "next, previous variant"],
  ["m", "next metric"],
  ["u", "next kind of units, where there are several"],
  ["i", "intensity per layer, per picture, across steps"],
  ["c", "curve"],
  ["e", "exclude position 0, or not"],
  ["t", "tokens as rows, or as columns"],
  ["+  −  0  9", "larger, smaller, as fits, all of it; Ctrl and the wheel zoom too"],
  ["/", "search tokens; n and N go to the next and previous match"],
  ["j  k", "next, previous run"],
  ["o", "open files"],
  ["?", "this list; Esc closes it"],
];
const ON_MAP = [
  ["← → ↑ ↓", "move from cell to cell; Home, End, Page Up, Page Down to the edges"],
  ["Enter", "pin the token, or take the pin out (as a click does)"],
  ["x", "leave the position out of the scale, or take it in (as Shift and a click, or a click on its label)"],
];

export function createHelp(dialog, button) {
  const close = element("button", { type: "button", click: () => dialog.close() }, "Close");
  dialog.append(
    element("h2", {}, "Keys"),
    table(KEYS),
    element("h3", {}, "With the heatmap in focus"),
    table(ON_MAP),
    element(
      "p",
      {},
      "CSV holds every position, also those left out of the scale; PNG and SVG save both pictures where two stand side by side.",
    ),
    close,
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  const toggle = () => (dialog.open ? dialog.close() : dialog.showModal());
  button.addEventListener("click", toggle);
  return { toggle };
}

function table(rows) {
  return element(
    "table",
    { class: "keys" },
    element(
      "tbody",
      {},
      ...rows.map(([keys, what]) =>
        element(
          "tr",
          {},
          element(
            "th",
            { scope: "row" },
            ...keys
              .split("  ")
              .flatMap((key, index) => (index ? [" ", element("kbd", {}, key)] : [element("kbd", {}, key)])),
          ),
          element("td", {}, what),
        ),
      ),
    ),
  );
}
