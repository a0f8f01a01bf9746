/** The list of runs, with a filter once there are many. */
import { element } from "./element.js";
import { grouped } from "./numbers.js";
import { shortNames } from "./shortnames.js";

const MANY = 8;
export const COLUMNS = 40; // of a name: one that was made of a prompt has no more

export function createRuns(root, store, library) {
  const filter = element("input", {
    type: "search",
    "aria-label": "Filter runs",
    placeholder: "filter",
    hidden: true,
    input: () => show(list),
  });
  const items = element("ul", { "data-testid": "runs" });
  const count = element("p", { class: "muted small" });
  root.append(element("h2", {}, "Runs"), filter, count, items);
  const list = { filter, items, count, library, made: new WeakMap() };
  items.addEventListener("click", (event) => {
    const item = event.target.closest("li");
    if (item) library.show(item.dataset.id);
  });
  library.subscribe(() => show(list));
  return { by: (change) => move(list, change) };
}

function show(list) {
  const { filter, items, count, library } = list;
  const { entries, current } = library;
  filter.hidden = entries.length <= MANY;
  const found = entries.filter((entry) => fits(entry, filter.value));
  count.textContent = filter.value
    ? `${found.length} of ${entries.length}`
    : entries.length > MANY
      ? `${entries.length} runs`
      : "";
  const names = shortNames(
    entries.map(({ id }) => id),
    COLUMNS,
  );
  const shown = new Map(entries.map((entry, index) => [entry, names[index]]));
  items.replaceChildren(...found.map((entry) => item(list, entry, shown.get(entry), current)));
}

function fits({ name, label }, text) {
  const needle = text.trim().toLowerCase();
  return name.toLowerCase().includes(needle) || label.toLowerCase().includes(needle);
}

/** Made once for each entry: hundreds of runs are listed as they come. */
function item({ made }, entry, name, current) {
  let one = made.get(entry);
  if (!one) {
    const button = element("button", { type: "button" });
    const fault = element("span", { class: "fault-text" });
    one = element(
      "li",
      { "data-id": entry.id },
      button,
      fault,
      element("span", { class: "label-text" }, entry.label.slice(0, 200)),
    );
    made.set(entry, one);
  }
  if (one.firstChild.textContent !== name) one.firstChild.replaceChildren(...breakable(name));
  one.title = about(entry);
  one.querySelector(".fault-text").textContent = entry.fault ? "⚠ could not be read" : "";
  if (entry.id === current) one.firstChild.setAttribute("aria-current", "true");
  else one.firstChild.removeAttribute("aria-current");
  return one;
}

/** The name, whose lines may break between its words. */
function breakable(name) {
  return name
    .split(/([^_-]*[_-]+)/)
    .filter(Boolean)
    .flatMap((word, index) => (index ? [element("wbr"), word] : [word]));
}

function about({ id, sources, label, fault }) {
  return [fault, id, label.slice(0, 400), ...sources.map(({ file, bytes }) => `${file}, ${grouped(bytes)} bytes`)]
    .filter(Boolean)
    .join("\n");
}

function move({ library }, change) {
  const { entries, current } = library;
  const next = entries[entries.findIndex(({ id }) => id === current) + change];
  if (next) library.show(next.id);
}
