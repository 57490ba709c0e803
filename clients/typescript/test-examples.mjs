// Compiles the examples in TypeScript with the frameworks' own types, strictly, and runs each against a real server:
//
//   node test-examples.mjs BINARY
//
// The frameworks are those of ../adapters/typescript, whose run.sh installs them, and so is the Node that runs the examples.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const here = import.meta.dirname ?? new URL(".", import.meta.url).pathname;
const examples = join(here, "..", "..", "examples");
const frameworks = join(here, "..", "adapters", "typescript", "node_modules");
const work = mkdtempSync(join(tmpdir(), "pikarc-examples-"));

/** Runs a command, and returns what it prints. */
function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd: work, encoding: "utf8", ...options });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${error ?? ""}\n${stdout}${stderr}`);
  return stdout;
}

function prepare() {
  mkdirSync(join(work, "node_modules"));
  for (const name of readdirSync(frameworks)) {
    if (name !== "pikarc") symlinkSync(join(frameworks, name), join(work, "node_modules", name));
  }
  symlinkSync(here, join(work, "node_modules", "pikarc"));
  const names = readdirSync(examples).filter((name) => name.endsWith(".ts"));
  for (const name of names) cpSync(join(examples, name), join(work, name));
  writeFileSync(join(work, "package.json"), '{"type": "module"}');
  const compilerOptions = {
    target: "ES2022", lib: ["ES2022", "DOM", "DOM.Iterable", "DOM.AsyncIterable"], module: "NodeNext",
    strict: true, noUncheckedIndexedAccess: true, noEmit: true, skipLibCheck: true, preserveSymlinks: true,
    types: ["node"], typeRoots: [join(here, "node_modules", "@types")],
  }; // prettier-ignore
  writeFileSync(join(work, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }));
  return names;
}

async function serve(binary) {
  const port = await new Promise((found) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => found(port));
    });
  });
  const data = join(work, "data");
  const account = ["create-user", "--init", "--data-dir", data, "--email", "ann@example.com", "--password-stdin", "--json"];
  const { api_key } = JSON.parse(run(binary, account, { input: "correct horse battery staple\n" }));
  const server = spawn(binary, ["serve", "--data-dir", data, "--addr", `127.0.0.1:${port}`], { stdio: "ignore" });
  const base = `http://127.0.0.1:${port}`;
  for (;;) {
    if (await fetch(base + "/health/ready").then((r) => r.ok, () => false)) break; // prettier-ignore
    assert.equal(server.exitCode, null, "the server has ended");
    await new Promise((next) => setTimeout(next, 20));
  }
  return { server, base, key: api_key };
}

const names = prepare();
const binary = resolve(process.argv[2] ?? join(here, "..", "..", "pikarc"));
let server;
try {
  run(join(here, "node_modules", ".bin", "tsc"), ["-p", "."]);
  console.log(`${names.length} examples have the frameworks' types`);
  const started = await serve(binary);
  server = started.server;
  const env = { ...process.env, PIKARC_API_KEY: started.key, PIKARC_BASE_URL: started.base, PIKARC_JOURNAL_DIR: join(work, "journal") };
  for (const name of names) {
    const out = run(join(frameworks, ".bin", "node"), ["--disable-warning=ExperimentalWarning", name], { env });
    const id = / Run (\S+)\n$/.exec(out)?.[1];
    const told = await (await fetch(`${started.base}/v1/runs/${id}`, { headers: { authorization: `Bearer ${started.key}` } })).json();
    assert.equal(told.status, "COMPLETED", `${name}: ${out}`);
    const steps = told.steps.map((step) => [step.status, step.type, step.tool_name ?? step.model, step.prompt_tokens].join(" "));
    const model = "COMPLETED MODEL_CALL pretended-model 500";
    assert.deepEqual(steps, name === "with_openai.ts" ? [model] : [model, "COMPLETED TOOL_CALL refund 0", model], name);
    console.log(`${name}: ${out.trim()}`);
  }
} finally {
  server?.kill();
  rmSync(work, { recursive: true, force: true, maxRetries: 5 });
}
