/** Names cut to a column's width where they are the same, so that what tells them apart stays; as mask_impact/base/short_names.py does. */

const GAP = "...";
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;

/**
 * @param {string[]} names   no two alike
 * @param {number} most   columns, of which a wide character takes two
 * @returns {string[]} the names, those that are wider cut, no two alike: in more columns where these are too few
 */
export function shortNames(names, most) {
  const letters = names.map((name) => [...name]);
  const widest = Math.max(0, ...letters.map(columnsOf));
  if (widest <= most) return names;
  const places = tellingPlaces(letters);
  for (let columns = most; columns < widest; columns++) {
    const shown = letters.map((name, index) => shortened(name, ...places[index], columns));
    if (new Set(shown).size === names.length) return shown;
  }
  return names;
}

/** Of each name the stretch outside of which it is like some other name: the index of its first character, and past its last. */
function tellingPlaces(names) {
  const before = shared(names);
  const after = shared(names.map((name) => reversed(name)));
  return names.map(({ length }, index) => {
    const [first, end] = [before[index], length - after[index]];
    return [Math.max(0, Math.min(first, end - 1)), Math.min(length, Math.max(first + 1, end))];
  });
}

/** How many of its first characters each name has in common with the name most like it. */
function shared(names) {
  const texts = names.map((name) => name.join(""));
  const order = [...names.keys()].sort((a, b) => (texts[a] < texts[b] ? -1 : Number(texts[a] > texts[b])));
  const found = names.map(() => 0);
  order.slice(1).forEach((index, place) => {
    const other = order[place];
    const common = commonLength(names[index], names[other]);
    for (const one of [index, other]) found[one] = Math.max(found[one], common);
  });
  return found;
}

function commonLength(one, other) {
  const at = one.findIndex((letter, place) => letter !== other[place]);
  return at < 0 ? one.length : at;
}

/** The name in at most so many columns: without its middle where that shows both ends of what tells, else with what tells. */
function shortened(name, first, last, columns) {
  if (columnsOf(name) <= columns) return name.join("");
  const head = beginning(name, Math.floor((columns - 3) / 2));
  const tail = ending(name, Math.floor((columns - 2) / 2));
  const whole = words(name, first, last);
  const [start, stop] = columnsOf(name.slice(...whole)) > columns - 2 * GAP.length ? [first, last] : whole;
  const [from, to] = [head.length, name.length - tail.length];
  if ((start < from && to < stop) || stop <= from || to <= start) return joined(head, GAP, tail);
  return around(name.slice(0, start), name.slice(start, stop), name.slice(stop), columns);
}

/** The stretch, widened to whole words. */
function words(name, first, last) {
  const inWord = (index) => /[\p{L}\p{N}]/u.test(name[index] ?? "");
  while (inWord(first - 1)) first--;
  while (inWord(last)) last++;
  return [first, last];
}

/** The core with what stands before and after it, as far as there is room; one of the two whole if that goes. */
function around(before, core, after, columns) {
  const room = columns - columnsOf(core);
  if (room < 2 * GAP.length) {
    const inner = columns - 3 * GAP.length;
    return joined(GAP, beginning(core, Math.floor(inner / 2)), GAP, ending(core, Math.ceil(inner / 2)), GAP);
  }
  const [left, right] = [columnsOf(before), columnsOf(after)];
  const fits = (side) => side + GAP.length <= room;
  const share = fits(left) ? left : fits(right) ? room - right : Math.floor(room / 2);
  const start = left <= share ? before : [...beginning(before, share - GAP.length), ...GAP];
  const rest = room - columnsOf(start);
  return joined(start, core, right <= rest ? after : [...GAP, ...ending(after, rest - GAP.length)]);
}

function joined(...parts) {
  return parts.flatMap((part) => [...part]).join("");
}

function columnsOf(letters) {
  return letters.reduce((sum, letter) => sum + columnsOfOne(letter), 0);
}

function columnsOfOne(letter) {
  if (/\p{M}/u.test(letter)) return 0;
  return WIDE.test(letter) ? 2 : 1;
}

/** As many of the first characters as fit into so many columns. */
function beginning(letters, columns) {
  let taken = 0;
  const past = letters.findIndex((letter) => (taken += columnsOfOne(letter)) > columns);
  return past < 0 ? letters : letters.slice(0, past);
}

function reversed(letters) {
  return [...letters].reverse();
}

function ending(letters, columns) {
  return reversed(beginning(reversed(letters), columns));
}
