/**
 * All that the page calls of reading.
 *
 *     openFiles(files, { onProgress, onResult, onError })
 *
 * takes the files that were dropped or chosen. For each run among them onResult gets an entry of the list,
 * `{ id, name, label, tokens, sources, load({ onProgress, signal }), release() }`, where `label` is the prompt, `tokens` a key that
 * runs of the same prompt's tokens share (null where not known yet) and `load` promises a Result (result.js),
 * which `release` forgets; `load` then reads it again. An entry of an id that is listed already takes its place. onError gets `{ file, sentence }`, onProgress
 * `{ file, done, total }` in bytes. A `load` that fails rejects with an Error whose message is the sentence.
 */
import workerSource from "virtual:worker";
import { workerReader } from "./client.js";
import { createOpener } from "./opening.js";

export { openEmbedded } from "./embedded.js";

export const openFiles = createOpener(workerReader(workerSource)); // the worker starts with the page, not with a file
