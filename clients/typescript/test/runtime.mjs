// What differs from runtime to runtime, tried in the one that runs this: `node|bun|deno run -A test/runtime.mjs`.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Books } from "./books.mjs";
import { Pikarc } from "../dist/index.js";

const used = { usage: { prompt_tokens: 3, completion_tokens: 2 } };
const books = new Books();
let broken = false;
const server = createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  if (broken && request.method === "PATCH") return request.destroy();
  const answer = await books.fetch(`http://pikarc${request.url}`, { method: request.method, headers: request.headers, body: body || undefined });
  response.setHeader("content-type", "application/json");
  response.end(await answer.text());
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));

// The runtime's own fetch, its files, and the run around the code that runs.
const journalDir = mkdtempSync(join(tmpdir(), "pikarc-"));
const make = () => new Pikarc({ apiKey: "lg_test", baseUrl: `http://127.0.0.1:${server.address().port}`, journalDir, maxRetries: 0 });
const guard = make();
const refund = guard.tool("refund", async () => "refunded");
await guard.run({ userId: "ada" }, async (outer) => {
  await run(outer);
  assert.equal(await refund(), "refunded");
  await guard.run({ userId: "ada" }, (inner) => assert.equal(books.metadata.get(inner.runId).parent_run_id, outer.runId));
  broken = true;
  await run(outer);
  broken = false;
});
async function run(outer) {
  await outer.modelCall(async () => used, { model: "m" });
  for await (const chunk of await outer.modelStream(async function* () { yield used; }, { model: "m" })) void chunk; // prettier-ignore
}
assert.equal(await guard.journalLength(), 2, "reports wait in a file");
assert.equal(await make().flush(), 2, "another client delivers them");
assert.deepEqual(readdirSync(journalDir), []);
assert.equal(books.tokens, 20);
books.assertSettled();

const abort = new AbortController();
const aborted = guard.run({ userId: "ada", signal: abort.signal }, (run) => run.toolCall(() => new Promise(() => abort.abort()), { toolName: "t" }));
await assert.rejects(aborted, { name: "AbortError" });
books.assertSettled();
server.close();
server.closeAllConnections?.();
console.log(`calls are guarded by ${globalThis.Deno ? `Deno ${Deno.version.deno}` : globalThis.Bun ? `Bun ${Bun.version}` : `Node ${process.version}`}`);
