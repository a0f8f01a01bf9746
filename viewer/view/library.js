/** The runs that are open: each listed at once, read when it is first shown. */
import { forResult } from "./state.js";

const MOST_LOADED = 4; // runs in memory; those shown and compared stay

/**
 * @param {object} store
 * @param {object} notices
 * @returns {object} `entries` in the order of opening, `current` (an id), `subscribe`, `show(id)`, `result(id)`, `open`,
 *   `add`
 */
export function createLibrary(store, notices) {
  const library = { store, notices, entries: [], current: null, listeners: new Set(), wanted: 0, loaded: [] };
  return Object.assign(library, {
    subscribe: (listener) => library.listeners.add(listener),
    open: (files, openFiles, address) => open(library, files, openFiles, address),
    add(entry, address) {
      place(library, entry);
      return show(library, entry, address);
    },
    show: (id) =>
      show(
        library,
        library.entries.find((entry) => entry.id === id),
      ),
    result: (id) =>
      loaded(
        library,
        library.entries.find((entry) => entry.id === id),
      ),
  });
}

function tell({ listeners }) {
  for (const listener of listeners) listener();
}

/** Into the list, at the end or in the place of the one of the same id. */
function place({ entries }, entry) {
  const at = entries.findIndex(({ id }) => id === entry.id);
  if (at < 0) entries.push(entry);
  else entries[at] = entry;
}

/** Shows the run that the address names, or else the first of these that can be read. */
async function open(library, files, openFiles, address) {
  const { notices } = library;
  const wanted = address.wantedRun();
  notices.progress(`Opening ${files.length === 1 ? files[0].name : `${files.length} files`}`);
  const found = [];
  let shown = null;
  const onResult = (entry) => {
    place(library, entry);
    found.push(entry);
    if (!shown && (wanted === null || wanted === entry.id)) shown = show(library, entry, address);
    tell(library); // after reading has begun: the list can be made meanwhile
  };
  const onError = ({ file, sentence }) => notices.error(sentence.includes(file) ? sentence : `${file}: ${sentence}`);
  await openFiles(files, { onResult, onError, onProgress: progressOf(notices) });
  if (!found.length) notices.progress("");
  if (!shown && found.length) shown = show(library, found[0], address);
  let index = 0;
  while (shown && (await shown) === false && ++index < found.length) shown = show(library, found[index], address);
}

function progressOf(notices) {
  let last = 0;
  return ({ file, done, total }) => {
    const now = performance.now();
    if (now - last < 80 && done < total) return;
    last = now;
    notices.progress(`Reading ${file}: ${total > 0 ? Math.floor((100 * done) / total) : 0} %`);
  };
}

/** @returns {Promise<boolean>} false if it could not be read; what was shown stays */
async function show(library, entry, address = null) {
  if (!entry) return false;
  const turn = ++library.wanted;
  const result = await loaded(library, entry);
  if (!result) return false;
  if (turn !== library.wanted) return true; // another was asked for since
  library.current = entry.id;
  const { store } = library;
  const shown = forResult(store.get(), result);
  store.set({ ...shown, ...(address?.placeFor(shown.result) ?? {}) });
  tell(library);
  return true;
}

/** @returns {Promise<object|null>} null with a sentence, and `fault` in the entry, if it cannot be read */
async function loaded(library, entry) {
  if (!entry) return null;
  const { notices } = library;
  try {
    const result = await entry.load({ onProgress: progressOf(notices) });
    entry.fault = null;
    releaseOldest(library, entry, result);
    return result;
  } catch (error) {
    if (error.name === "AbortError") return null;
    notices.error(error.message);
    entry.fault = error.message;
    tell(library);
    return null;
  } finally {
    notices.progress("");
  }
}

/** Forget the runs loaded longest ago: clicking through hundreds must not fill the memory. */
function releaseOldest(library, entry, result) {
  library.loaded = [...library.loaded.filter((other) => other.entry !== entry), { entry, result }];
  const { result: shown, otherResult } = library.store.get();
  const inUse = [shown, otherResult].map((one) => one?.ofKind(null)); // as it was read, whichever kind is shown
  const old = library.loaded.slice(0, -MOST_LOADED).filter((one) => !inUse.includes(one.result));
  for (const one of old) one.entry.release();
  library.loaded = library.loaded.filter((one) => !old.includes(one));
}
