/** Has read what the state needs; if that fails, says so and goes back to what was shown before. */
import { currentView, neededPlaces } from "./view.js";

export function readWhatIsNeeded(store, notices) {
  let good = null; // the last place that could be shown
  const update = (state, changed) => {
    if (!["result", "step", "variant", "metric", "compare", "otherResult", "reads"].some((key) => changed.has(key)))
      return;
    const missing = neededPlaces(state).filter(
      ({ result, step, variant }) => result.peek(step, variant, "l2") === null,
    );
    if (missing.length === 0) {
      if (currentView(state)) good = state;
      return;
    }
    Promise.all(missing.map(({ result, step, variant }) => result.matrix(step, variant, "l2"))).then(
      () => store.get().result === state.result && store.set({ reads: store.get().reads + 1 }),
      (error) => {
        notices.error(error.message);
        goBack(store, state, good);
      },
    );
  };
  store.subscribe(update);
}

function goBack(store, failed, good) {
  const now = store.get();
  if (
    now.result !== failed.result ||
    now.step !== failed.step ||
    now.variant !== failed.variant ||
    now.compare !== failed.compare
  )
    return;
  const { step, variant, compare } = good?.result === now.result ? good : { step: 0, variant: 0, compare: null };
  if (step !== now.step || variant !== now.variant || compare !== now.compare)
    store.set({ step, variant, compare, hover: null });
}
