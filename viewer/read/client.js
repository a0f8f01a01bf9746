/** The page's side of the worker: requests go out, answers come back by number. */
import { ReadError } from "./errors.js";

/** @param {string} source  the worker's code; a Blob of it works on file:// too */
export function workerReader(source) {
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const waiting = new Map();
  let worker = start();
  let last = 0;

  function start() {
    const started = new Worker(url);
    started.onmessage = ({ data: { id, done, answer, error } }) => {
      const request = waiting.get(id);
      if (request === undefined) return; // cancelled
      if (done !== undefined) return request.onProgress?.(done);
      waiting.delete(id);
      if (error)
        request.reject(Object.assign(error.file ? new ReadError(error.message) : new Error(error.message), error));
      else request.resolve(answer);
    };
    started.onerror = (event) => {
      event.preventDefault();
      worker.terminate();
      worker = start();
      for (const { reject } of waiting.values())
        reject(new ReadError(`reading broke off (${event.message || "out of memory"})`));
      waiting.clear();
    };
    return started;
  }

  function ask(request, { signal, onProgress } = {}) {
    const id = ++last;
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      signal?.addEventListener(
        "abort",
        () => {
          if (!waiting.delete(id)) return;
          worker.postMessage({ task: "cancel", id });
          reject(signal.reason);
        },
        { once: true },
      );
      waiting.set(id, { resolve, reject, onProgress });
      worker.postMessage({ id, ...request });
    }).then((answer) => ({ id, answer }));
  }

  /** As readTable in table.js, with `close` beside it, which forgets the file. */
  return async function read(file, format, { signal, onProgress, ...options }) {
    const request = { task: "table", name: file.name, file, format, options };
    const {
      id,
      answer: { table, run, lazy },
    } = await ask(request, { signal, onProgress });
    const loadBlock = async (step, variant, kind) =>
      (await ask({ task: "block", name: file.name, table: id, step, variant, kind })).answer;
    const close = () => worker.postMessage({ task: "close", id });
    return lazy ? { table, run, loadBlock, close } : { table, run };
  };
}
