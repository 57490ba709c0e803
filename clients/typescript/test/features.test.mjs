import assert from "node:assert/strict";
import { test } from "node:test";
import { retryAfter } from "../dist/transport.js";
import { Books } from "./books.mjs";

const used = { usage: { prompt_tokens: 3, completion_tokens: 2 } };

test("functions are guarded within the run around them, of whichever client", async () => {
  const [books, others] = [new Books(), new Books()];
  const guard = books.client();
  const add = guard.tool("add", (a, b) => a + b);
  const ask = guard.model("m", async () => used);
  await assert.rejects(add(1, 2), /belongs to a run/);
  await guard.run({ userId: "ada" }, async (run) => {
    assert.equal(guard.current(), run);
    assert.equal(await add(1, 2), 3);
    await others.client({ apiKey: "lg_other" }).run({ userId: "ada" }, async () => assert.equal(await ask(), used));
  });
  await assert.rejects(add(1, 2), /belongs to a run/);
  assert.deepEqual([books.steps.size, books.tokens, others.steps.size], [2, 5, 0]);
  books.assertSettled();
});

test("a function that outlives its run is not called", async () => {
  const books = new Books();
  const guard = books.client();
  let late;
  await guard.run({ userId: "ada" }, () => {
    const after = new Promise((resolve) => setTimeout(resolve, 20));
    late = after.then(guard.tool("t", () => assert.fail("called")));
  });
  await assert.rejects(late, /belongs to a run/);
});

test("a run inside another carries its id", async () => {
  const books = new Books();
  const guard = books.client();
  await guard.run({ userId: "ada" }, async (outer) => {
    await guard.run({ userId: "ada", metadata: { a: 1 } }, (inner) =>
      assert.deepEqual(books.metadata.get(inner.runId), { parent_run_id: outer.runId, a: 1 }),
    );
    assert.equal(books.metadata.has(outer.runId), false);
  });
});

test("a thousand calls at once are each settled once", async () => {
  const books = new Books();
  let reports = 0;
  const guard = books.client({ fetch: (url, init) => ((reports += init.method === "PATCH"), books.fetch(url, init)) });
  await guard.run({ userId: "ada" }, (run) =>
    Promise.all(Array.from({ length: 1000 }, () => run.modelCall(() => used, { model: "m" }))),
  );
  assert.deepEqual([books.steps.size, books.tokens, reports], [1000, 5000, 1000]);
  books.assertSettled();
});

test("a step that another settles is settled once, by what comes first", async () => {
  const books = new Books();
  await books.client().run({ userId: "ada" }, async (run) => {
    const [one, two] = [await run.beginTool({ toolName: "a" }), await run.beginTool({ toolName: "b" })];
    await Promise.all([one.complete("done"), one.fail(new Error("no")), two.fail(new RangeError("no"))]);
    await run.beginTool({ toolName: "c" }); // and is forgotten
  });
  assert.deepEqual([...books.steps.values()], ["COMPLETED", "FAILED RangeError: no", "FAILED NotReported: what came of the call was not told"]);
  books.assertSettled();
});

test("a stream that nobody reads is settled with its run", async () => {
  const books = new Books();
  await books.client().run({ userId: "ada" }, async (run) => void (await run.modelStream(async function* () {}, { model: "m" })));
  assert.deepEqual([...books.steps.values()], ["COMPLETED"]);
  books.assertSettled();
});

const never = () => new Promise(() => undefined);
const streams = {
  "before it begins": (abort) => async () => (abort(), never()),
  "before its first chunk": (abort) => async function* () { abort(); await never(); yield 1; },
  "between chunks": (abort) => async function* () { yield 1; abort(); await never(); },
}; // prettier-ignore
for (const [when, make] of Object.entries(streams)) {
  test(`aborted ${when}, a stream ends and its step is cancelled`, async () => {
    const books = new Books();
    const abort = new AbortController();
    const run = books.client().run({ userId: "ada", signal: abort.signal }, async (run) => {
      for await (const chunk of await run.modelStream(make(() => abort.abort()), { model: "m" })) void chunk;
    });
    await assert.rejects(run, { name: "AbortError" });
    assert.deepEqual([...books.steps.values(), ...books.runs.values()], ["FAILED cancelled", "FAILED"]);
  });
}

for (const [name, answer, tokens, cached] of [
  ["the AI SDK's models", { usage: { inputTokens: { total: 10, cacheRead: 4 }, outputTokens: { total: 5, reasoning: 2 } } }, 15, 4],
  ["OpenAI's Agents SDK", { usage: { inputTokens: 10, outputTokens: 5, inputTokensDetails: [{ cached_tokens: 4 }], outputTokensDetails: [{ reasoning_tokens: 2 }] } }, 15, 4],
  ["LangChain", { usage_metadata: { input_tokens: 10, output_tokens: 5, input_token_details: { cache_read: 4 }, output_token_details: { reasoning: 2 } } }, 15, 4],
]) {
  test(`usage is read with cached and reasoning tokens from ${name}`, async () => {
    const books = new Books();
    let sent;
    const guard = books.client({ fetch: (url, init) => ((sent = init.method === "PATCH" ? JSON.parse(init.body).usage : sent), books.fetch(url, init)) });
    await guard.run({ userId: "ada" }, (run) => run.modelCall(() => answer, { model: "m" }));
    assert.equal(books.tokens, tokens);
    assert.deepEqual([sent.input_tokens_details.cached_tokens, sent.output_tokens_details.reasoning_tokens], [cached, 2]);
  });
}

test("Retry-After is obeyed within a bound", () => {
  for (const [said, want] of [["7", 7_000], ["0.3", 300], ["3600", 30_000], ["-1", 0], ["nan", 0], ["soon", 0], ["", 0], [null, 0]]) {
    assert.equal(retryAfter(said), want, `${said}`);
  }
  const date = retryAfter(new Date(Date.now() + 10_000).toUTCString());
  assert.ok(date > 8_000 && date <= 10_000, `${date} ms`);
});
