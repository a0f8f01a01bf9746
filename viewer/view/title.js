/** What run it is, and what is missing about it; shows the page's parts once there is something to show. */
import { answerLine } from "./answer.js";
import { element } from "./element.js";
import { grouped } from "./numbers.js";
import { METRIC_NAMES } from "./state.js";
import { measuredApart, measuredWords, otherPlace, shownPlace } from "./view.js";
import { columnName } from "./words.js";

const ABOUT = "about-closed";

/**
 * @param {object} store
 * @param {object} calm   the store for listeners that are not urgent
 */
export function createTitle(store, calm) {
  const at = (id) => document.getElementById(id);
  rememberAbout(at("about"));
  store.subscribe(({ result }) => result && document.body.classList.remove("empty"));
  calm.subscribe((state, changed) => {
    if (!state.result) return;
    if (changed.has("result")) showRun(at, state.result);
    for (const part of ["decoder", "encoder"]) {
      for (const one of document.querySelectorAll(`.about-${part}`)) one.hidden = state.result.part !== part;
    }
    at("about-measured").hidden = state.result.run !== null;
    at("about-units").hidden = state.result.kind === "tokens";
    at("about-picture").hidden = !state.result.images.length;
    at("maps").classList.toggle("beside", state.transposed);
    if (!["result", "variant", "metric", "step", "at", "compare", "otherResult"].some((key) => changed.has(key)))
      return;
    at("map-title").textContent = mapTitle(state);
    const signed = state.compare?.mode === "difference" && otherPlace(state) !== null;
    at("about-bright").hidden = signed;
    at("about-difference").hidden = !signed;
  });
}

function showRun(at, result) {
  document.title = `${result.name} – Token Masking Impact Analysis`;
  at("run-name").textContent = result.id;
  at("run-about").textContent = facts(result).join(" · ");
  at("answer").replaceChildren(...answerLine(result.knockout));
  at("notes").replaceChildren(...result.notes.map((note) => element("li", {}, note)));
}

function facts(result) {
  const { run, part, layers, steps, variants, rows, tokens, seen } = result;
  const count = (number, one) => `${grouped(number)} ${one}${number === 1 ? "" : "s"}`;
  const model = run?.settings?.model;
  return [
    typeof model === "string" ? model : null,
    count(layers.length, part === "encoder" ? "encoder block" : "layer"),
    result.kind === "tokens" && seen(0).length > tokens(0).length
      ? `${grouped(tokens(0).length)} of ${count(seen(0).length, "token")} masked`
      : count(tokens(0).length, columnName({ result })),
    part === "encoder" ? null : count(steps.length, "step"),
    count(variants.length, "variant"),
    count(rows, "row"),
    typeof run?.method === "string" ? run.method : null,
  ].filter(Boolean);
}

/** What is shown; where two are compared, both by what they differ in. */
export function mapTitle(state) {
  const { metric, compare } = state;
  const place = shownPlace(state);
  const here = namesOf(place);
  const there = otherPlace(state);
  if (!there) return `${capital(METRIC_NAMES[metric])}, ${here.variant}, ${here.step}`;
  const { kind, mode } = compare;
  const [what, joint] =
    mode === "difference"
      ? [`Difference of ${METRIC_NAMES[metric]}s`, "minus"]
      : [capital(METRIC_NAMES[metric]), "beside"];
  const shared = ["variant", "step"].filter((one) => one !== kind).map((one) => here[one]);
  const apart = measuredApart(place, there) !== "";
  if (apart) shared.pop();
  const name = (one) => namesOf(one)[kind] + (apart ? ` (${measuredWords(one)})` : "");
  return `${[what, ...shared].join(", ")}: ${name(place)} ${joint} ${name(there)}`;
}

/** Of an encoder's run, which has one step, the measured cell stands for the step. */
function namesOf(place) {
  const { result, variant, step } = place;
  return {
    run: result.id,
    variant: result.variants[variant],
    step: measuredWords(place) || `step ${result.steps[step]}`,
  };
}

function capital(text) {
  return text[0].toUpperCase() + text.slice(1);
}

/** Whoever has read it and closed it need not close it again. */
function rememberAbout(about) {
  try {
    if (localStorage.getItem(ABOUT) === "1") about.open = false;
    about.addEventListener("toggle", () => localStorage.setItem(ABOUT, about.open ? "0" : "1"));
  } catch {
    // a browser may forbid it
  }
}
