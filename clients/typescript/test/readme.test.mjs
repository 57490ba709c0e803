// The README's code is what people copy: it must have the right types, and run.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import ts from "typescript";
import { Books } from "./books.mjs";

const root = join(import.meta.dirname, "..");
// Beside the source, where "pikarc" is found as this package itself.
const dir = join(root, "dist", "readme");
rmSync(dir, { recursive: true, force: true });
mkdirSync(dir);
after(() => rmSync(dir, { recursive: true }));
process.env["PIKARC_JOURNAL_DIR"] = mkdtempSync(join(tmpdir(), "pikarc-"));
process.env["PIKARC_API_KEY"] = "lg_test";

const usage = { prompt_tokens: 3, completion_tokens: 2 };
globalThis.askTheModel = async () => ({ text: "I am", usage });
globalThis.search = async () => ["found"];
globalThis.sendMail = async () => "sent";
globalThis.streamTheModel = async function* () {
  yield { text: "I" };
  yield { text: " am", usage };
};
const prelude = `
declare function askTheModel(question: string): Promise<{ text: string }>;
declare function search(words: string): Promise<string[]>;
declare function sendMail(): Promise<string>;
declare function streamTheModel(question: string): AsyncIterable<{ text: string }>;
declare module "openai" {
  export default class OpenAI { chat: { completions: { create(body: object): Promise<{ id: string }> } } }
}`;
// In the place of the package, which the adapters' tests use as it is.
const openai = `export default class OpenAI {
  chat = { completions: { create: (body) => this.post("/chat/completions", { body }) } };
  post = async () => ({ usage: ${JSON.stringify(usage)} });
  withOptions() { return new OpenAI(); }
}`;

const blocks = [...readFileSync(join(root, "README.md"), "utf8").matchAll(/^```ts\n(.*?)^```/gms)].map((found) => found[1]);
const files = blocks.map((_, i) => join(dir, `block${i}.ts`));

test("the blocks have the right types", () => {
  writeFileSync(join(dir, "prelude.d.ts"), prelude);
  blocks.forEach((block, i) => writeFileSync(files[i], block));
  const options = {
    noEmit: true, strict: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, types: ["node"], skipLibCheck: true,
    moduleResolution: ts.ModuleResolutionKind.NodeNext, lib: ["lib.es2022.d.ts", "lib.dom.d.ts", "lib.dom.asynciterable.d.ts"],
  }; // prettier-ignore
  const program = ts.createProgram([join(dir, "prelude.d.ts"), ...files], options);
  const problems = ts.getPreEmitDiagnostics(program).map((d) => `${d.file?.fileName}: ${ts.flattenDiagnosticMessageText(d.messageText, "\n")}`);
  assert.deepEqual(problems, []);
});

blocks.forEach((block, i) => {
  test(`block ${i + 1} runs, and each of its calls is settled`, async () => {
    const books = new Books();
    globalThis.fetch = books.fetch;
    writeFileSync(join(dir, "openai.mjs"), openai);
    const made = ts.transpileModule(block.replace('"openai"', '"./openai.mjs"'), { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022 } });
    const path = join(dir, `block${i}.mjs`);
    writeFileSync(path, made.outputText);
    await import(path);
    assert.ok(books.steps.size > 0);
    assert.deepEqual([...new Set(books.steps.values())], ["COMPLETED"]);
    books.assertSettled();
  });
});
