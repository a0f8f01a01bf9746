/** The largest cell of what is shown, in words: several tokens may share the brightest colour, one of each layer. */
import { positionWords } from "./columns.js";
import { element } from "./element.js";
import { brief } from "./numbers.js";
import { COLOURED_BY, goTo, valueName } from "./shown.js";
import { currentView } from "./state.js";
import { header, rowName } from "./words.js";

/** The cell farthest from 0 that is above its layer's noise floor and not left out: {layer, token, value}, or null. */
export function strongestCell({ values, cols, floors, excludedMask, scale: { rowMax } }) {
  let layer = -1;
  rowMax.forEach((most, row) => {
    if (most > Math.max(0, floors[row] ?? 0) && !(rowMax[layer] >= most)) layer = row;
  });
  for (let token = 0; layer >= 0 && token < cols; token++) {
    const value = values[layer * cols + token];
    if (!excludedMask[token] && Math.abs(value) === rowMax[layer]) return { layer, token, value };
  }
  return null;
}

export function createLead(root, store) {
  const show = (state) => {
    const view = currentView(state);
    root.replaceChildren(...(view ? words(state, view, store) : []));
  };
  store.subscribe(
    (state, changed) => (changed.has("reads") || COLOURED_BY.some((key) => changed.has(key))) && show(state),
  );
}

function words(state, view, store) {
  const cell = strongestCell(view);
  if (!cell) return ["No cell is above the noise floor."];
  const token = view.tokens[cell.token];
  const show = () => goTo(store, { variant: state.variant, layer: cell.layer, token: cell.token });
  const name = element(
    "button",
    { class: "link", title: "Show it in the heatmap", click: show },
    element("bdi", { class: "token-name" }, header(token.text, 40)),
  );
  const where = ` (${positionWords(token)}), ${rowName(view.place)} ${view.layers[cell.layer]}, ${valueName(state, view)} ${brief(cell.value, 4)}`;
  return [`${leadWords(state, view)}: `, name, where, sinkWords(view)];
}

/** What the largest cell is: one layer's, and so not what moves the layers most when all are summed. */
function leadWords({ metric }, { scale, place }) {
  if (scale.signed) return "Differs most";
  return metric === "interaction" ? "Interacts most" : `Moves one ${rowName(place)} most`;
}

/** A unit may be left out for its first position alone: what it holds beside that is not told then, so it is named. */
export function sinkWords({ tokens, excludedMask }) {
  const out = tokens.find(({ position, count }, token) => position === 0 && count > 1 && excludedMask[token]);
  return out ? `. Left out, as it holds position 0: ${header(out.text, 40)}` : "";
}
