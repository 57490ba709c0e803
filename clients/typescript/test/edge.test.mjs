// Edge runtimes have the web's globals and no modules of Node: the package runs in a context that has nothing else.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import ts from "typescript";
import { EdgeRuntime } from "edge-runtime";
import { Books } from "./books.mjs";

const dist = join(import.meta.dirname, "..", "dist");
const sources = readdirSync(dist, { recursive: true }).filter((name) => name.endsWith(".js"));

test("no module of Node is imported but where the journal looks for files", () => {
  const importing = sources.filter((name) => /\bimport\b[^;]*["']node:|\brequire\(/.test(readFileSync(join(dist, name), "utf8")));
  assert.deepEqual(importing, ["journal.js"]);
  assert.doesNotMatch(readFileSync(join(dist, "journal.js"), "utf8"), /^import .*node:/m);
});

/** The package as one script, for a context that has no modules: each file is a function of its exports. */
function bundled() {
  const parts = [];
  const add = (path) => {
    const { outputText } = ts.transpileModule(readFileSync(path, "utf8"), { compilerOptions: { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 } });
    const text = outputText.replaceAll(/require\("(\.[^"]+)"\)/g, (_, name) => `load(${JSON.stringify(join(dirname(path), name))})`);
    parts.push(`${JSON.stringify(path)}: (exports, load, require) => {${text}}`);
  };
  for (const name of sources) if (!name.startsWith("adapters") && existsSync(join(dist, name))) add(join(dist, name));
  return `const files = {${parts.join(",\n")}}; const made = {};
    const load = (path) => { if (!made[path]) { made[path] = {}; files[path](made[path], load, () => { throw new Error("no modules here"); }); } return made[path]; };
    const { Pikarc } = load(${JSON.stringify(join(dist, "index.js"))});`;
}

test("calls are guarded in an edge runtime, and what cannot be delivered waits in memory", async () => {
  const books = new Books();
  books.hook = (n, before) => {
    if (before && n === 5) throw new TypeError("fetch failed"); // a report
  };
  const runtime = new EdgeRuntime({ extend: (context) => Object.assign(context, { ask: async (url, init) => (await books.fetch(url, init)).text() }) });
  const got = await runtime.evaluate(`${bundled()}
    (async () => {
      const fetch = async (url, init) => new Response(await ask(url, { ...init, signal: undefined }));
      const guard = new Pikarc({ apiKey: "lg_test", baseUrl: "http://pikarc", maxRetries: 0, fetch });
      const waited = await guard.run({ userId: "ada" }, async (run) => {
        for await (const chunk of await run.modelStream(async function* () { yield { usage: { prompt_tokens: 3, completion_tokens: 2 } }; }, { model: "m" })) void chunk;
        await run.toolCall(() => 1, { toolName: "t" });
        return guard.journalLength();
      });
      return [typeof process, waited, await guard.flush(), await guard.journalLength()].join();
    })()`);
  assert.equal(got, "undefined,1,1,0");
  assert.deepEqual([books.steps.size, books.tokens], [2, 5]);
  books.assertSettled();
});
