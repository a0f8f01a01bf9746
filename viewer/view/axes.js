/** Labels along one edge of a heatmap: only those in view are there, each found again by its index while it scrolls. */
import { middleAt } from "./columns.js";
import { element } from "./element.js";

const CHARACTER = 0.62; // of the font's size, in the monospace font

/** Pixels that a text of so many characters takes. */
export function textWidth(characters, size) {
  return Math.ceil(characters * CHARACTER * size);
}

/** A label stands at every so many cells: lines of text keep two pixels apart. */
export function labelEvery(cell, size) {
  return Math.ceil((size + 2) / cell);
}

/** The size of labels beside cells. */
export function labelSize(cell) {
  return Math.max(9, Math.min(12, cell - 2));
}

/**
 * @param {"top"|"bottom"|"left"|"right"} edge
 * @returns {{root: HTMLElement, show: Function, mark: Function}}
 */
export function createAxis(edge) {
  const strip = element("div", { class: "strip" });
  const axis = { edge, strip, root: element("div", { class: `axis axis-${edge}` }, strip), pool: [], marks: new Map() };
  return {
    root: axis.root,
    show: (labels) => show(axis, labels),
    mark: (index, name, on) => mark(axis, index, name, on),
  };
}

/**
 * @param {object} axis
 * @param {object} labels
 * @param {number} labels.first     index of the first cell in view
 * @param {number} labels.last      and of the last
 * @param {number} labels.every     a label for every so many cells
 * @param {number} labels.cell      CSS pixels
 * @param {ArrayLike<number>|null} [labels.starts]  where cells begin, in cells, if they are not of one size
 * @param {number} labels.scrolled  CSS pixels
 * @param {boolean} labels.turned   text runs upwards
 * @param {number} labels.size      of the font
 * @param {unknown} labels.version  another one means that texts, titles or names may be others
 * @param {(index: number) => string} labels.text
 * @param {(index: number) => string} [labels.title]
 * @param {(index: number) => string} [labels.name]   class names
 */
function show(axis, labels) {
  const { first, last, every, scrolled, cell, turned, size, version } = labels;
  const across = axis.edge === "top" || axis.edge === "bottom";
  axis.strip.style.transform = across ? `translateX(${-scrolled}px)` : `translateY(${-scrolled}px)`;
  const layout = `${cell} ${turned} ${every} ${size}`;
  const fresh = axis.version !== version || axis.layout !== layout || axis.labels?.starts !== labels.starts;
  if (axis.layout !== layout) restyle(axis, labels, across);
  Object.assign(axis, { version, layout, labels });
  const start = Math.floor(first / every);
  const end = Math.floor(last / every);
  grow(axis, end - start + 1);
  const used = new Set();
  for (let place = start; place <= end; place++) {
    const label = axis.pool[place % axis.pool.length];
    used.add(label);
    fill(axis, label, place * every, fresh, across);
  }
  for (const label of axis.pool) if (!used.has(label)) hide(label);
}

function restyle({ root }, { cell, turned, size, every }, across) {
  root.style.setProperty("--size", `${size}px`);
  root.style.setProperty("--cell", `${Math.max(cell, across && !turned ? cell * every : size + 1)}px`);
  root.classList.toggle("turned", turned);
}

/** A pool that grows gets new labels only; the old ones find other places. */
function grow({ pool, strip }, count) {
  if (count <= pool.length) return;
  for (let more = pool.length; more < count + 8; more++) {
    const root = element("span", { class: "label", hidden: true });
    strip.append(root);
    pool.push({ root, index: -1 });
  }
}

function fill({ labels, marks }, label, index, fresh, across) {
  const { root } = label;
  if (label.index === index && !fresh) return;
  const { cell, turned, size, every, starts = null } = labels;
  const own = Math.max(cell, across && !turned ? cell * every : size + 1);
  root.style[across ? "left" : "top"] = `${middleAt(starts, index) * cell - own / 2}px`;
  root.textContent = labels.text(index);
  root.title = labels.title?.(index) ?? "";
  root.className = `label ${labels.name?.(index) ?? ""} ${marks.get(index) ?? ""}`;
  root.dataset.index = index;
  root.hidden = false;
  label.index = index;
}

function hide(label) {
  if (label.index < 0) return;
  label.root.hidden = true;
  label.index = -1;
}

/** Marks a label that may be in view, now or when it comes there. */
function mark({ pool, marks }, index, name, on) {
  if (on) marks.set(index, name);
  else marks.delete(index);
  const label = pool.find((one) => one.index === index);
  label?.root.classList.toggle(name, on);
}
