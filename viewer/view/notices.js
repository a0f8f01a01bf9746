/** Sentences about files: what could not be read, and how far reading is. */
import { element } from "./element.js";

/**
 * @param {HTMLElement} errors
 * @param {HTMLElement} progress
 * @returns {{error: (sentence: string) => void, progress: (text: string) => void}} "" ends the progress line
 */
export function createNotices(errors, progress) {
  return {
    error: (sentence) => addError(errors, sentence),
    // The style sheet hides it for the first moment: most reading is quick.
    progress: (text) => (progress.textContent = text),
  };
}

function addError(errors, sentence) {
  const said = [...errors.querySelectorAll("[role=alert]")].some((one) => one.textContent === sentence);
  if (said) return;
  const remove = () => (root.remove(), countErrors(errors));
  const root = element(
    "div",
    { class: "error" },
    element("span", { role: "alert" }, sentence),
    element("button", { type: "button", "aria-label": "Dismiss this message", click: remove }, "×"),
  );
  errors.append(root);
  countErrors(errors);
}

/** Several messages can go at once. */
function countErrors(errors) {
  errors.querySelector(".dismiss-all")?.remove();
  const { length } = errors.children;
  if (length < 2) return;
  const click = () => errors.replaceChildren();
  errors.prepend(element("button", { type: "button", class: "dismiss-all", click }, `Dismiss all ${length} messages`));
}
