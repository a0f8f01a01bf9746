/** A token's distances over the layers as a line; several pinned tokens compare. */
import { chart } from "./chart.js";
import { element } from "./element.js";
import { brief } from "./numbers.js";
import { pinStyle, sample, showPins } from "./pins.js";
import { hoverToken, tokenName, valueName, variantName } from "./shown.js";
import { currentView } from "./state.js";
import { rowName } from "./words.js";

const MOST = 16; // lines that can still be told apart
const HOVERED = { colour: "var(--fg)", dash: "" };

export function createProfile(root, store) {
  const plot = element("div", { class: "plot" });
  const list = element("ul", { class: "pins" });
  const clear = element("button", { type: "button", click: () => store.set({ pins: [] }) }, "Remove all pins");
  const hint = element("p", { class: "muted" }, "Point at a token, or click tokens to pin and compare them.");
  const hovered = element("p", { class: "hovered-line" });
  const body = element("div", { "data-testid": "profile" }, plot, list, hovered, hint, clear);
  const title = element("h2", {}, "Profile over layers");
  root.append(element("div", { class: "panel-head" }, title), body);
  const parts = { title, plot, list, hovered, clear, hint, listed: "" };

  let waiting = 0;
  const later = () => {
    waiting ||= requestAnimationFrame(() => {
      waiting = 0;
      show(parts, store);
    });
  };
  store.subscribe(later); // hover comes often: at most once a frame
  show(parts, store);
}

function show(parts, store) {
  const state = store.get();
  const view = currentView(state);
  if (!view) return;
  const lines = shownLines(state, view);
  const { title, plot, clear, hint } = parts;
  const row = rowName(view.place);
  title.textContent = `Profile over ${row}s`;
  hint.hidden = lines.length > 0;
  clear.hidden = state.pins.length < 2;
  const name = `${valueName(state, view)} of ${lines.map(({ token }) => tokenName(token)).join(", ")} over ${row}s, ${variantName(state)}`;
  plot.replaceChildren(...(lines.length ? [chart(lines, view.layers, valueName(state, view), name, row)] : []));
  showLegend(parts, store, lines);
}

/** The list is made anew only where it differs: it has buttons, one of which may be held or have the focus. */
function showLegend(parts, store, lines) {
  const pinned = lines.filter((line) => line.pinned);
  const listed = JSON.stringify(pinned.map(({ index, token, about }) => [index, token.text, token.where, about]));
  if (listed !== parts.listed) {
    parts.listed = listed;
    showPins(parts.list, pinned, (index) => store.set({ pins: store.get().pins.filter((pin) => pin !== index) }));
  }
  const { token, style, about } = lines.find((line) => !line.pinned) ?? {};
  parts.hovered.replaceChildren(...(token ? [sample(style), ` ${tokenName(token)}${about}`] : []));
}

/** The pinned tokens and, if it is none of them, the hovered one. */
function shownLines(state, view) {
  const pins = state.pins.filter((index) => index < view.cols).slice(0, MOST);
  const hovered = hoverToken(state);
  const also = hovered !== null && hovered < view.cols && !pins.includes(hovered) ? [hovered] : [];
  return [...pins, ...also].map((index, place) => {
    const values = Float64Array.from({ length: view.rows }, (_, layer) => view.values[layer * view.cols + index]);
    const style = place < pins.length ? pinStyle(place) : HOVERED;
    return {
      index,
      token: view.tokens[index],
      values,
      style,
      about: largest(values, view.layers, rowName(view.place)),
      pinned: place < pins.length,
    };
  });
}

function largest(values, layers, row) {
  let best = -1;
  values.forEach((value, layer) => {
    if (!Number.isNaN(value) && (best < 0 || Math.abs(value) > Math.abs(values[best]))) best = layer;
  });
  return best < 0 ? `: undefined in every ${row}` : `: largest ${brief(values[best], 4)} in ${row} ${layers[best]}`;
}
