import assert from "node:assert/strict";
import { test } from "node:test";
import { Pikarc } from "../dist/index.js";
import { Books } from "./books.mjs";

const used = { usage: { prompt_tokens: 3, completion_tokens: 2 } };

for (let n = 1; n <= 6; n++) {
  for (const before of [true, false]) {
    test(`aborted ${before ? "before" : "after"} request ${n} is carried out, a run ends and its steps are settled`, async () => {
      const books = new Books();
      const client = books.client();
      const abort = new AbortController();
      books.hook = (seen, isBefore) => seen === n && isBefore === before && abort.abort();
      await client
        .run({ userId: "ada", signal: abort.signal }, async (run) => {
          await run.modelCall(() => used, { model: "m" });
          await run.toolCall(() => 1, { toolName: "t" });
        })
        .catch((error) => assert.equal(error.name, "AbortError"));
      books.assertSettled();
      assert.equal(await client.journalLength(), 0);
    });
  }
}

test("aborted within a call, its step is cancelled and the run has failed", async () => {
  const books = new Books();
  const abort = new AbortController();
  const run = books.client().run({ userId: "ada", signal: abort.signal }, (run) =>
    run.toolCall(() => new Promise(() => abort.abort()), { toolName: "t" }),
  );
  await assert.rejects(run, { name: "AbortError" });
  assert.deepEqual([...books.steps.values(), ...books.runs.values()], ["FAILED cancelled", "FAILED"]);
});

const io = () => new Promise(setImmediate);
/** Waits for n turns of the runtime's queues, of which every 24th lets input and output happen. */
async function turns(n) {
  for (let i = 0; i < n; i++) await (i % 24 === 23 ? io() : undefined);
}

test("aborted wherever it waits, a run ends, its step is settled, and its place is free", async () => {
  const seen = new Set();
  for (let n = 0; ; n++) {
    assert.ok(n < 5_000, "it never ends");
    const books = new Books();
    const fetch = async (...asked) => {
      await io();
      const answer = await books.fetch(...asked);
      await io();
      return answer;
    };
    const client = books.client({ fetch });
    const abort = new AbortController();
    let finished = false;
    const work = client.run({ userId: "ada", signal: abort.signal }, async (run) => {
      await run.modelCall(async () => (await turns(3), used), { model: "m" });
      for await (const chunk of await run.modelStream(() => chunks(), { model: "m" })) void chunk;
      await run.toolCall(async () => turns(3), { toolName: "t" });
      finished = true;
    });
    const ended = work.then(() => "ended", (error) => (assert.equal(error.name, "AbortError"), "aborted")); // prettier-ignore
    const first = await Promise.race([ended, turns(n).then(() => "turns")]);
    abort.abort();
    await ended;
    books.assertSettled();
    const told = `${n}: ${JSON.stringify([[...books.steps], [...books.runs]])}`;
    const steps = [...books.steps.values()];
    assert.ok(steps.slice(0, -1).every((step) => step === "COMPLETED") && [undefined, "COMPLETED", "FAILED cancelled"].includes(steps.at(-1)), told);
    assert.deepEqual([...books.runs.values()].filter((run) => run !== (finished ? "COMPLETED" : "FAILED")), [], told);
    assert.equal(await client.journalLength(), 0, told);
    seen.add(steps.join());
    if (first === "ended") break;
  }
  assert.equal(seen.size, 5, [...seen].join("\n")); // before a step, within each of the three, and after all
});

async function* chunks(breaks = false) {
  yield "a";
  yield "b";
  if (breaks) throw new RangeError("broken");
  yield used;
}

for (const [name, breaks, most, tokens, status] of [
  ["whole", false, 9, 5, "COMPLETED"],
  ["broken off", true, 9, 2, "FAILED RangeError: broken"],
  ["left early", false, 1, 1, "COMPLETED"],
]) {
  test(`a stream that is ${name} is settled once with what came`, async () => {
    const books = new Books();
    const seen = [];
    await books
      .client()
      .run({ userId: "ada" }, async (run) => {
        for await (const chunk of await run.modelStream(() => chunks(breaks), { model: "m" })) {
          seen.push(chunk);
          if (seen.length === most) break;
        }
      })
      .catch((error) => assert.ok(error instanceof RangeError));
    assert.deepEqual([...books.steps.values()], [status]);
    assert.equal(books.tokens, tokens);
    assert.deepEqual(seen.slice(0, 2), ["a", "b"].slice(0, most));
    books.assertSettled();
  });
}

for (const [name, options] of Object.entries({
  "no key": {},
  "a line break in the key": { apiKey: "lg_secret\n" },
  "no scheme": { apiKey: "lg_secret", baseUrl: "localhost:8000" },
  "/v1 in the address": { apiKey: "lg_secret", baseUrl: "http://localhost/v1" },
  "a password in the address": { apiKey: "lg_secret", baseUrl: "http://ann:secret@localhost" },
})) {
  test(`${name} is refused and not repeated`, () => {
    delete process.env["PIKARC_API_KEY"];
    assert.throws(() => new Pikarc(options), (error) => !error.message.includes("secret"));
  });
}

const ring = {};
ring["itself"] = ring;
for (const [name, described] of Object.entries({
  ring, bigint: 10n ** 30n, function: () => 1, symbol: Symbol("s"), NaN, NUL: "\0", "50 MB": "x".repeat(50_000_000),
})) {
  test(`an agent lives that describes: ${name}`, async () => {
    const books = new Books();
    const run = books.client().run({ userId: "ada", metadata: { described } }, async (run) => {
      await run.toolCall(() => described, { toolName: "t", inputData: described });
      await run.modelCall(() => used, { model: "m", inputData: { described }, tokenExtractor: () => { throw new Error("no"); } });
    });
    await run;
    assert.deepEqual([...books.steps.values()], ["COMPLETED", "COMPLETED"]);
    assert.equal(books.tokens, 5);
  });
}
