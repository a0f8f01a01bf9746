/** A Blob's bytes in slices. Never the whole text: past 512 MiB Chromium gives an empty string, without an error. */
import { ReadError } from "./errors.js";

export const SLICE = 8 << 20;
const LONGEST = 64 << 20; // no row of a table is this long

/**
 * A window over a file: `bytes[0, limit)` is what can be read now, `bytes[limit]` is 0. `more(start)` moves on and
 * keeps what lies from `start` on, which is then at 0; the next slice is fetched while this one is read.
 */
export class Slices {
  bytes = new Uint8Array(1);
  limit = 0;
  #offset = 0;
  #next;

  /** @param {{size?: number, signal?: AbortSignal, onProgress?: (done: number) => void}} [options] */
  constructor(blob, { size = SLICE, signal, onProgress } = {}) {
    this.blob = blob;
    this.size = size;
    this.signal = signal;
    this.onProgress = onProgress;
    this.#fetch();
  }

  /** Whether the window reaches the end of the file. */
  get last() {
    return this.#offset >= this.blob.size;
  }

  #fetch() {
    if (this.last) return;
    this.#next = this.blob.slice(this.#offset, this.#offset + this.size).arrayBuffer();
    this.#next.catch(() => {}); // reported when it is waited for
  }

  /** @returns {Promise<boolean>} false if nothing more is to come */
  async more(start) {
    this.signal?.throwIfAborted();
    if (this.last) return false;
    const kept = this.limit - start;
    if (kept > LONGEST) throw new ReadError(`has a value longer than ${LONGEST >> 20} MB; a quote that is never closed looks so`);
    const slice = new Uint8Array(await this.#next);
    if (slice.length === 0) throw new ReadError("the browser gives no bytes of it; it was changed since it was chosen");
    this.#offset += slice.length;
    this.#fetch();
    this.#take(slice, start, kept);
    this.onProgress?.(this.#offset);
    return true;
  }

  #take(slice, start, kept) {
    const needed = kept + slice.length + 1;
    const to = needed <= this.bytes.length ? this.bytes : new Uint8Array(Math.max(needed, this.size + (1 << 16)));
    to.set(this.bytes.subarray(start, this.limit)); // may overlap itself, which `set` allows for
    to.set(slice, kept);
    this.bytes = to;
    this.limit = kept + slice.length;
    to[this.limit] = 0;
  }
}
