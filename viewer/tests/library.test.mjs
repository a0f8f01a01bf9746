import assert from "node:assert/strict";
import test from "node:test";

import { createLibrary } from "../view/library.js";
import { createStore } from "../view/state.js";
import { fakeResult } from "./fake.mjs";

/** Entries that tell which of them are in memory. */
function entriesOf(count, inMemory) {
  return Array.from({ length: count }, (_, number) => {
    const id = `r${number}`;
    const load = async () => {
      inMemory.add(id);
      return fakeResult({ name: id });
    };
    return { id, name: id, label: "", sources: [], load, release: () => inMemory.delete(id) };
  });
}

test("clicking through many runs keeps the last few, and the one that is compared with", async () => {
  const inMemory = new Set();
  const store = createStore();
  const library = createLibrary(store, { progress() {}, error: assert.fail });
  for (const entry of entriesOf(20, inMemory)) await library.add(entry);
  assert.deepEqual([...inMemory], ["r16", "r17", "r18", "r19"]);
  store.set({ otherResult: await library.result("r3") });
  for (let number = 4; number < 16; number++) await library.show(`r${number}`);
  assert.deepEqual([...inMemory].sort(), ["r12", "r13", "r14", "r15", "r3"]);
  await library.show("r3");
  assert.equal(store.get().result.id, "r3");
});
