/** Searching the tokens: how many match, and from match to match. */
import { showMatches, bringIntoView } from "./moving.js";

/** The indices of the tokens that hold the text, without regard to case. A match may run over several tokens. */
export function matchesOf(tokens, sought) {
  const needle = sought.toLowerCase();
  if (needle === "") return [];
  const texts = tokens.map(({ text }) => text.toLowerCase());
  const within = texts.flatMap((text, index) => (text.includes(needle) ? [index] : []));
  if (within.length) return within;
  const starts = [];
  let length = 0;
  for (const text of texts) {
    starts.push(length);
    length += text.length;
  }
  return runsOver(texts.join(""), needle, starts);
}

/** Where no token holds it alone: the token in which each place of the whole text begins. */
function runsOver(whole, needle, starts) {
  const found = [];
  let token = 0;
  for (let at = whole.indexOf(needle); at >= 0; at = whole.indexOf(needle, at + 1)) {
    while (token + 1 < starts.length && starts[token + 1] <= at) token++;
    if (found.at(-1) !== token) found.push(token);
  }
  return found;
}

export function createSearch(store, map) {
  const at = (id) => document.getElementById(id);
  const search = { store, map, input: at("search"), count: at("search-count"), matches: [], current: -1 };
  search.input.addEventListener("input", () => store.set({ search: search.input.value, hover: null }));
  search.input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") go(search, event.shiftKey ? -1 : 1);
    else if (event.key === "Escape") store.set({ search: "", hover: null });
    else return;
    event.preventDefault();
  });
  at("search-next").addEventListener("click", () => go(search, 1));
  at("search-previous").addEventListener("click", () => go(search, -1));
  const update = (state, changed = null) =>
    (changed === null || ["search", "result", "step"].some((key) => changed.has(key))) && find(search, state);
  store.subscribe(update);
  update(store.get());
  return { go: (way) => go(search, way), focus: () => search.input.focus() };
}

function find(search, { result, step, search: sought }) {
  if (search.input.value !== sought) search.input.value = sought;
  if (sought === "" && search.matches.length === 0 && search.count.textContent === "") return;
  search.matches = result ? matchesOf(result.tokens(step), sought) : [];
  search.current = -1;
  showMatches(search.map, search.matches);
  tell(search);
}

function tell({ count, matches, current, input }) {
  const { length } = matches;
  count.textContent =
    input.value === ""
      ? ""
      : length === 0
        ? "no match"
        : current < 0
          ? `${length} found`
          : `${current + 1} of ${length}`;
}

function go(search, way) {
  const { matches, store, map } = search;
  if (!matches.length) return;
  search.current =
    search.current < 0 ? (way > 0 ? 0 : matches.length - 1) : (search.current + way + matches.length) % matches.length;
  const token = matches[search.current];
  const cell = { layer: null, token }; // the whole token: no cell, whose tooltip would stay
  map.pointer = null;
  bringIntoView(map, cell);
  store.set({ hover: cell });
  tell(search);
}
