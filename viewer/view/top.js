/** The largest (layer, variant, token) cells of the shown step, each a way to go there. */
import { placed } from "./columns.js";
import { choice, element } from "./element.js";
import { lazyPanel } from "./lazy.js";
import { excludedMask, headVariants, readMeasured } from "./measured.js";
import { brief } from "./numbers.js";
import { goTo, metricName } from "./shown.js";
import { strongestOf } from "./strongest.js";
import { header, rowName, tokenWord } from "./words.js";

const MOST = 50;
const KEYS = ["result", "step", "metric", "excluded"];

/** A cell's column values, for sorting: texts by their letters, all else by size. */
const COLUMNS = {
  value: { sorted: ({ value }) => value, down: true },
  layer: { sorted: ({ layer }) => layer },
  variant: { sorted: ({ variant }) => variant },
  token: { sorted: ({ token }, tokens) => tokens[token].text.trim().toLowerCase() },
  position: { sorted: ({ token }, tokens) => tokens[token].position },
};

/** The cells in the order of a column; equals stay as they stood. */
export function sortedBy(cells, column, down, tokens) {
  const { sorted } = COLUMNS[column];
  const sign = down ? -1 : 1;
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return [...cells].sort((a, b) => sign * order(sorted(a, tokens), sorted(b, tokens)));
}

export function createTop(root, store) {
  const top = { store, cells: [], scope: "heads", column: "value", down: true, state: null };
  const scope = choice(
    "Cells of",
    [
      ["heads", "all heads"],
      ["this", "this variant"],
      ["all", "all variants"],
    ],
    (value) => {
      top.scope = value;
      top.panel.refill();
    },
  );
  top.head = element("tr");
  top.rows = element("tbody");
  const table = element(
    "table",
    { class: "top-list", "data-testid": "top-list" },
    element("thead", {}, top.head),
    top.rows,
  );
  top.panel = lazyPanel(root, store, {
    title: "Largest cells",
    keys: KEYS,
    variants: (state) => scopeVariants(state, top.scope),
    fill: (state, signal) => fill(top, state, signal),
    touch: (state, changed) => top.scope === "this" && changed.has("variant") && top.panel.refill(),
  });
  top.panel.body.append(scope.root, element("div", { class: "scroll" }, table));
}

function scopeVariants({ result, variant }, scope) {
  const heads = headVariants(result);
  if (scope === "this" || (scope === "heads" && heads.length === 0)) return [variant];
  return scope === "heads" ? heads : result.variants.map((_, index) => index);
}

async function fill(top, state, signal) {
  const variants = scopeVariants(state, top.scope);
  const selection = strongestOf(MOST);
  const excluded = excludedMask(state);
  await readMeasured(state, variants, {
    signal,
    each({ matrix, norms, floors }, variant, done) {
      selection.add(matrix, variant, { norms, floors, excluded });
      if (done < variants.length) top.panel.status(`${done} of ${variants.length} variants …`);
    },
  });
  if (signal.aborted) return;
  top.state = state;
  top.cells = selection.list();
  const left = excluded.includes(1) ? "; positions left out of the scale are left out here" : "";
  const found = `The ${top.cells.length} largest at this step by ${metricName(state)}${left}.${ofHeads(state, variants)}`;
  top.panel.status(top.cells.length ? found : "No cell has a defined distance above its noise floor.");
  show(top);
}

/** Why these numbers are others than the heatmap's. */
function ofHeads({ result, variant }, variants) {
  const heads = new Set(headVariants(result));
  const apart = variants.some((one) => heads.has(one)) && !heads.has(variant);
  return apart
    ? ` A head's distance is of its own output, before the heads are combined: not on the scale of ${result.variants[variant]}.`
    : "";
}

function show(top) {
  const { state, cells, column, down } = top;
  const tokens = state.result.tokens(state.step);
  const names = {
    value: metricName(state),
    layer: rowName(state),
    variant: "variant",
    token: tokenWord(state),
    position: state.result.kind === "tokens" ? "position" : "positions",
  };
  top.head.replaceChildren(...Object.keys(COLUMNS).map((name) => heading(top, name, names[name])));
  top.rows.replaceChildren(...sortedBy(cells, column, down, tokens).map((cell) => row(top, cell, tokens[cell.token])));
}

function heading(top, name, text) {
  const active = top.column === name;
  const click = () => {
    top.down = active ? !top.down : COLUMNS[name].down === true;
    top.column = name;
    show(top);
    top.head.children[Object.keys(COLUMNS).indexOf(name)].firstChild.focus();
  };
  const sort = active ? (top.down ? "descending" : "ascending") : "none";
  const arrow = active ? (top.down ? " ▼" : " ▲") : "";
  const button = element("button", { type: "button", click }, text, element("span", { "aria-hidden": "true" }, arrow));
  return element("th", { scope: "col", "aria-sort": sort }, button);
}

function row({ store, state }, cell, token) {
  const { value, layer, variant } = cell;
  const { text } = token;
  const [layerNumber, name] = [state.result.layers[layer], state.result.variants[variant]];
  const label = `Go to ${header(text, 40)} at ${placed(token)}, ${rowName(state)} ${layerNumber}, ${name}`;
  const link = element(
    "button",
    { type: "button", class: "link", "aria-label": label, click: () => goTo(store, cell) },
    brief(value, 4),
  );
  return element(
    "tr",
    {},
    element("td", { class: "number", title: String(value) }, link),
    element("td", { class: "number" }, String(layerNumber)),
    element("td", {}, name),
    element("td", { class: "name" }, element("bdi", { title: header(text, 400) }, header(text, 40))),
    element("td", { class: "number" }, placed(token)),
  );
}
