/** What the answer rests on, in a line, as the run file's knock-outs have it. */
import { element } from "./element.js";
import { brief, signed } from "./numbers.js";
import { header } from "./words.js";

const LONGEST_ANSWER = 60;
const LONGEST_UNIT = 40;

/** @returns {(Node|string)[]} none for a run without knock-outs; what is against the answer where that is more */
export function answerLine({ answer, probability, restsOn, against, readAt }) {
  const opposed = (against[0]?.change ?? 0) > -(restsOn[0]?.change ?? 0);
  const parts = [
    ["rests on ", restsOn],
    ["against it ", opposed ? against : []],
    ["the final position reads it at ", readAt],
  ].filter(([, units]) => units.length);
  if (!parts.length) return [];
  const sure = probability === null ? "" : ` (${probability < 0.001 ? brief(probability, 2) : probability.toFixed(3)})`;
  const said = parts.map(([words, units]) => [words, ...units.flatMap(unitWords)]);
  return [
    named(answer, LONGEST_ANSWER),
    `${sure} `,
    ...said[0],
    " nats",
    ...said.slice(1).flatMap((one) => ["; ", ...one]),
  ];
}

function unitWords({ text, change }, index) {
  return [index ? ", " : "", named(text, LONGEST_UNIT), ` ${signed(change)}`];
}

/** In quotes, as the command prints it: a space at the start stays one. */
function named(text, most) {
  const shown = /^ [^ ]/.test(text) ? ` ${header(text.slice(1), most)}` : header(text, most);
  return element("bdi", {}, `'${shown}'`);
}
