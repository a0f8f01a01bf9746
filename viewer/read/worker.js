/** The worker that reads tables, so that the page stays at hand meanwhile. */
import { named } from "./errors.js";
import { buffersOf, buffersOfBlock, readTable } from "./table.js";
import { warmUp } from "./warm.js";

const PROGRESS_MS = 50;
const running = new Map(); // AbortController by request
const opened = new Map(); // loadBlock by the request that opened its table

const tasks = {
  async table({ id, file, format, options }) {
    const controller = new AbortController();
    running.set(id, controller);
    const onProgress = seldom((done) => self.postMessage({ id, done }));
    const {
      table,
      run = null,
      loadBlock,
    } = await readTable(file, format, { ...options, signal: controller.signal, onProgress });
    if (loadBlock) opened.set(id, loadBlock);
    return [{ table, run, lazy: Boolean(loadBlock) }, buffersOf(table)];
  },
  async block({ table, step, variant, kind }) {
    const block = await opened.get(table)(step, variant, kind);
    return [block, buffersOfBlock(block)];
  },
};

self.onmessage = async ({ data }) => {
  if (data.task === "cancel") running.get(data.id)?.abort();
  else if (data.task === "close") opened.delete(data.id);
  else {
    try {
      const [answer, buffers] = await tasks[data.task](data);
      self.postMessage({ id: data.id, answer }, buffers);
    } catch (error) {
      const { name, message, file } = named(error, data.name);
      self.postMessage({ id: data.id, error: { name, message, file } });
    } finally {
      running.delete(data.id);
    }
  }
};

warmUp();

function seldom(call) {
  let last = performance.now();
  return (done) => {
    if (performance.now() - last < PROGRESS_MS) return;
    last = performance.now();
    call(done);
  };
}
