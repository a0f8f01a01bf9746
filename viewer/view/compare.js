/** Comparing: what with, as a difference or side by side, and what of the two does not meet. */
import { mismatch } from "./align.js";
import { setOptions } from "./element.js";
import { COLUMNS } from "./runs.js";
import { shortNames } from "./shortnames.js";
import { currentView, measuredApart, measuredWords, otherPlace, shownPlace } from "./view.js";
import { rowName } from "./words.js";

const LABELS = { run: "Other run", step: "Other step", variant: "Other variant" };

export function createCompare(store, library, maps) {
  const at = (id) => document.getElementById(id);
  const parts = {
    kind: at("compare-kind"),
    choice: at("compare-choice"),
    label: at("compare-label"),
    other: at("compare-other"),
    mode: at("compare-mode"),
    note: at("compare-note"),
    second: at("second"),
    title: at("second-title"),
  };
  const compare = { store, library, parts, loading: null };
  parts.kind.addEventListener("change", () => choose(compare, parts.kind.value));
  parts.other.addEventListener("change", () => set(compare, { other: valueOf(parts) }));
  parts.mode.addEventListener("change", () => set(compare, { mode: parts.mode.value }));
  const update = (state) => updated(compare, state);
  store.subscribe(
    (state, changed) =>
      ["compare", "result", "otherResult", "step", "variant", "reads", "metric"].some((key) => changed.has(key)) &&
      update(state),
  );
  library.subscribe(() => update(store.get()));
  scrollTogether(maps);
}

function choose(compare, kind) {
  const { store } = compare;
  const mode = store.get().compare?.mode ?? "difference";
  store.set({ compare: kind ? { kind, mode, other: firstOther(compare, store.get(), kind) } : null });
}

/** The runs that may be compared with this one: another part's cells are others; an entry not read yet may not know its part. */
export function comparable(entries, { part }) {
  return entries.filter((entry) => !entry.part || entry.part === part);
}

/** What is compared with at first: another step or variant, but only a run of the same tokens. */
function firstOther(compare, state, kind) {
  if (kind === "run") return runsLike(compare.library, state.result)[0]?.id ?? null;
  return optionsOf(compare, state, kind).find(([, , shown]) => !shown)?.[0] ?? null;
}

/** The other runs that are known to have the same tokens. */
function runsLike({ entries }, result) {
  const tokens = entries.find(({ id }) => id === result.id)?.tokens;
  return comparable(entries, result).filter(
    (entry) => entry.id !== result.id && !entry.fault && tokens && entry.tokens === tokens,
  );
}

function set({ store }, patch) {
  store.set({ compare: { ...store.get().compare, ...patch } });
}

function valueOf({ kind, other }) {
  return kind.value === "run" ? other.value : Number(other.value);
}

/** [value, text, is it what is shown already] */
function optionsOf({ library }, { result, step, variant, compare }, kind) {
  if (!result) return [];
  if (kind === "step") return result.steps.map((number, index) => [index, String(number), index === step]);
  if (kind === "variant") return result.variants.map((name, index) => [index, name, index === variant]);
  const open = compare?.other === null ? [["", "choose", true]] : [];
  const listed = library.entries.filter((entry) => entry.id === compare?.other || comparable([entry], result).length);
  const names = shortNames(
    listed.map(({ id }) => id),
    COLUMNS,
  );
  return [...open, ...listed.map(({ id }, index) => [id, names[index], id === result.id])];
}

function updated(compare, state) {
  const { parts } = compare;
  const chosen = state.compare;
  parts.kind.value = chosen?.kind ?? "";
  parts.choice.hidden = chosen === null;
  if (chosen) {
    parts.label.textContent = LABELS[chosen.kind];
    setOptions(parts.other, optionsOf(compare, state, chosen.kind), chosen.other ?? "");
    parts.mode.value = chosen.mode;
    if (chosen.kind === "run") loadOther(compare, state);
  }
  showNote(compare, state);
  parts.second.hidden = !(chosen?.mode === "side" && otherPlace(state));
  if (!parts.second.hidden) parts.title.textContent = titleOf(state);
}

async function loadOther(compare, { compare: { other }, otherResult }) {
  if (other === null || otherResult?.id === other || compare.loading === other) return;
  if (!compare.library.entries.some(({ id }) => id === other)) return;
  compare.loading = other;
  const result = await compare.library.result(other);
  compare.loading = null;
  if (result && compare.store.get().compare?.other === other) compare.store.set({ otherResult: result });
}

function showNote({ parts: { note }, library }, state) {
  const { compare, result } = state;
  if (!compare || !result) return void (note.textContent = "");
  if (compare.other === null) return void (note.textContent = nothingChosen(compare.kind, library, result));
  const view = currentView(state);
  if (view?.compared) note.textContent = meeting(state, view);
  else if (compare.kind === "run" && state.otherResult?.id === compare.other && !otherPlace(state))
    note.textContent = whyNot(result, state.otherResult);
  else note.textContent = "";
}

function meeting(state, view) {
  const said = mismatch(view, view.compared) || `Both have the same tokens and ${rowName(state)}s.`;
  return [measuredApart(shownPlace(state), otherPlace(state)), said].filter(Boolean).join(" ");
}

function whyNot({ part, kind }, other) {
  if (!other.kinds.includes(kind)) return `The other run has no ${kind}, so there is nothing to compare.`;
  if (part === other.part) return "The other run has no such step or variant.";
  return `The other run is of the ${other.part}, this one of the ${part}: their cells are not the same, so the two are not compared.`;
}

function nothingChosen(kind, { entries }, result) {
  if (kind === "run" && comparable(entries, result).length > 1)
    return "Choose the other run: none is known to have the same tokens as this one.";
  const alike =
    kind === "run" && entries.length > 1 ? ` Runs of the ${result.part} are compared with each other only.` : "";
  return `There is no ${LABELS[kind].toLowerCase()} to compare with.${alike}`;
}

function titleOf(state) {
  const place = otherPlace(state);
  const { result, step, variant } = place;
  return `${result.id}, ${result.variants[variant]}, ${measuredWords(place) || `step ${result.steps[step]}`}`;
}

/** Two pictures side by side scroll as one. */
function scrollTogether(maps) {
  for (const map of maps) {
    map.scroller.addEventListener(
      "scroll",
      () => {
        for (const other of maps) {
          if (other === map || !other.view) continue;
          if (other.scroller.scrollLeft !== map.scroller.scrollLeft)
            other.scroller.scrollLeft = map.scroller.scrollLeft;
          if (other.scroller.scrollTop !== map.scroller.scrollTop) other.scroller.scrollTop = map.scroller.scrollTop;
        }
      },
      { passive: true },
    );
  }
}
