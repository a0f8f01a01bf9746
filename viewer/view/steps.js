/** The generation step: slider, play, what the model predicts there. */
import { element } from "./element.js";
import { percent } from "./numbers.js";
import { atStep, currentView } from "./state.js";
import { header, visible } from "./words.js";

const BEAT = 700; // ms that each step is shown while playing

export function createSteps(store) {
  const at = (id) => document.getElementById(id);
  const parts = {
    slider: at("step"),
    number: at("step-number"),
    play: at("play"),
    predicted: at("predicted"),
    top: at("top-tokens"),
    group: at("steps"),
    next: at("next"),
  };
  const steps = { store, parts, playing: 0 };
  parts.slider.addEventListener("input", () => store.set(atStep(store.get(), Number(parts.slider.value))));
  parts.play.addEventListener("click", () => togglePlay(steps));
  const update = (state, changed = null) =>
    (changed === null || changed.has("result") || changed.has("step")) && show(steps, state);
  store.subscribe(update);
  update(store.get());
  return { by: (change) => move(steps, change), togglePlay: () => togglePlay(steps) };
}

function move({ store }, change) {
  const state = store.get();
  if (!state.result) return;
  store.set(atStep(state, Math.min(state.result.steps.length - 1, Math.max(0, state.step + change))));
}

function togglePlay(steps) {
  const { store } = steps;
  const { result, step } = store.get();
  if (steps.playing || !result || result.steps.length < 2) return stop(steps);
  if (step === result.steps.length - 1) store.set(atStep(store.get(), 0));
  steps.playing = setInterval(() => beat(steps), BEAT);
  steps.parts.play.textContent = "Pause";
}

/** One step on; a step that is still being read is waited for. */
function beat(steps) {
  const { store } = steps;
  const state = store.get();
  if (!state.result || state.step >= state.result.steps.length - 1) return stop(steps);
  if (currentView(state)) move(steps, 1);
}

function stop(steps) {
  clearInterval(steps.playing);
  steps.playing = 0;
  steps.parts.play.textContent = "Play";
}

function show({ parts }, { result, step }) {
  if (!result) return;
  const { slider, number, play, predicted, top } = parts;
  // The encoder generates nothing: it has one step, and predicts no token.
  parts.group.hidden = parts.next.hidden = result.part === "encoder";
  const last = result.steps.length - 1;
  slider.max = last;
  slider.value = step;
  slider.disabled = play.disabled = last < 1;
  const text = `${result.steps[step]}${last > 0 ? ` (last: ${result.steps[last]})` : ""}`;
  number.textContent = text;
  slider.setAttribute("aria-valuetext", text);
  predicted.replaceChildren(
    ...prediction(result.generated(step), typeof result.run?.settings?.continuation === "string"),
  );
  top.replaceChildren(...likeliest(result.top(step), result.generated(step)));
}

function prediction(token, given) {
  if (!token) return [];
  const share = token.probability === null ? "" : ` (${percent(token.probability)})`;
  return [
    given ? "The given text goes on with " : "The model goes on with ",
    element("bdi", { class: "token-name" }, header(token.text, 40)),
    share,
  ];
}

function likeliest(tokens, next) {
  if (!tokens) return [element("p", { class: "muted small" }, "Only the run file knows them.")];
  return [
    element(
      "ol",
      {},
      ...tokens.map(({ text, probability }) => {
        const row = element(
          "li",
          { class: next && text === next.text ? "chosen" : "" },
          element("bdi", { title: visible(text).slice(0, 400) }, header(text, 18)),
        );
        const bar = element("span", { class: "share" }, element("span", { class: "share-bar" }));
        bar.firstChild.style.width = `${100 * (probability ?? 0)}%`;
        row.append(bar, element("span", { class: "number" }, probability === null ? "" : percent(probability)));
        return row;
      }),
    ),
  ];
}
