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
  const root = element("div", { class: "error" }, element("span", { role: "alert" }, sentence));
  root.append(
    element("button", { type: "button", "aria-label": "Dismiss this message", click: () => root.remove() }, "×"),
  );
  errors.append(root);
}
