/** A Blob's bytes in slices. Never the whole text: past 512 MiB Chromium gives an empty string, without an error. */
import { ReadError } from "./errors.js";

const LONGEST = 64 << 20; // no row of a table is this long
const FIRST_ROOM = 1 << 20;

/**
 * A window over a file: `bytes[0, limit)` is what can be read now, `bytes[limit]` is 0. `more(start)` moves on and
 * keeps what lies from `start` on, which is then at 0. The browser reads ahead of it.
 */
export class Slices {
  bytes = new Uint8Array(FIRST_ROOM);
  limit = 0;
  #done = 0; // bytes of the file that are in the window or behind it
  #waiting = new Uint8Array(0);

  /** @param {{size?: number, signal?: AbortSignal, onProgress?: (done: number) => void}} [options]  size: at most so many bytes at once */
  constructor(blob, { size = Infinity, signal, onProgress } = {}) {
    this.blob = blob;
    this.size = size;
    this.signal = signal;
    this.onProgress = onProgress;
    this.reader = blob.stream().getReader();
  }

  /** @returns {Promise<boolean>} false if nothing more is to come */
  async more(start) {
    this.signal?.throwIfAborted();
    if (this.#done >= this.blob.size) return false;
    const kept = this.limit - start;
    if (kept > LONGEST)
      throw new ReadError(`has a value longer than ${LONGEST >> 20} MB; a quote that is never closed looks so`);
    if (this.#waiting.length === 0) this.#waiting = await this.#next();
    this.#take(this.#waiting.subarray(0, this.size), start, kept);
    this.#waiting = this.#waiting.subarray(this.size);
    this.onProgress?.(this.#done);
    return true;
  }

  async #next() {
    for (;;) {
      const { done, value } = await this.reader.read();
      if (done) throw new ReadError("ends before its size; it was changed since it was chosen, so open it again");
      if (value.length) return value;
    }
  }

  #take(slice, start, kept) {
    const needed = kept + slice.length + 1;
    const to = needed <= this.bytes.length ? this.bytes : new Uint8Array(2 * needed);
    to.set(this.bytes.subarray(start, this.limit)); // may overlap itself, which `set` allows for
    to.set(slice, kept);
    this.bytes = to;
    this.limit = kept + slice.length;
    this.#done += slice.length;
    to[this.limit] = 0;
  }
}
