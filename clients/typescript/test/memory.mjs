// 100,000 guarded calls leave nothing behind: `npm run memory` (under a minute).
import assert from "node:assert/strict";
import { Books } from "./books.mjs";

/** Forgets what it has answered, which would grow here. */
class Forgetful extends Books {
  carryOut(path, init) {
    const id = super.carryOut(path, init);
    this.byKey.clear();
    this.runs.clear();
    this.steps.clear();
    return id;
  }
}

const books = new Forgetful();
const client = books.client();
const abort = new AbortController(); // a signal that lives long collects listeners, if they are not taken off
async function calls(n) {
  await client.run({ userId: "ada", signal: abort.signal }, async (run) => {
    for (let i = 0; i < n / 2; i++) {
      await run.modelCall(() => ({ usage: { prompt_tokens: 1, completion_tokens: 1 } }), { model: "m", inputData: { i } });
      for await (const chunk of await run.modelStream(stream, { model: "m" })) void chunk;
    }
  });
  globalThis.gc();
  return process.memoryUsage().heapUsed;
}
async function* stream() {
  yield "a";
  yield { usage: { prompt_tokens: 1, completion_tokens: 1 } };
}

const before = await calls(10_000);
const started = performance.now();
const afterwards = await calls(100_000);
const grown = afterwards - before;
console.log(`100,000 calls in ${Math.round(performance.now() - started)} ms; the heap has grown by ${Math.round(grown / 1024)} KiB`);
assert.ok(grown < 1 << 20, `the heap has grown by ${grown} bytes`);
