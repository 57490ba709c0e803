// Claude Code itself under the guard of `pikarc hook`, set up as docs/hooks.md says. Only its model is a stand-in.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { standIn } from "../typescript/anthropic.mjs";
import { serve } from "../typescript/server.mjs";

const scope = new URL("node_modules/@anthropic-ai/", import.meta.url).pathname;
// The package holds a script that starts the program for this machine, which a package of its own holds.
const program = readdirSync(scope).map((name) => join(scope, name, "claude")).find(existsSync); // prettier-ignore
const work = mkdtempSync(join(tmpdir(), "pikarc-code-"));
let server;

before(async () => {
  assert.ok(program, "Claude Code has no program for this machine");
  server = await serve(process.env["PIKARC_BINARY"], join(work, "data"));
  // A tool's calls have a price, as other calls have.
  await server.call("PUT", "/v1/model-pricing/tool:Bash", { cost_per_call: 0.25 });
});
after(async () => {
  await server?.stop();
  rmSync(work, { recursive: true, force: true, maxRetries: 5 });
});

/** Runs a command, and waits without stopping what this process serves. */
function start(command, args, cwd, env) {
  return new Promise((resolve) => {
    const child = execFile(command, args, { cwd, env, timeout: 60_000 }, (error, stdout, stderr) => resolve({ code: error ? (error.code ?? -1) : 0, stdout, stderr }));
    child.stdin.end();
  });
}

/** Somebody with Claude Code, a directory to work in, and the hook. */
class Coder {
  home = mkdtempSync(join(work, "home-"));
  project = join(this.home, "project");
  binary = join(this.home, "pikarc");
  user = this.home.slice(-6);
  turns = []; // what the model has been told, with each question
  env = {
    PATH: process.env["PATH"], HOME: this.home, USER: this.user, PIKARC_API_KEY: server.apiKey, PIKARC_BASE_URL: server.base,
    ANTHROPIC_API_KEY: "none", CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1", DISABLE_AUTOUPDATER: "1",
  }; // prettier-ignore

  async install() {
    mkdirSync(this.project);
    copyFileSync(process.env["PIKARC_BINARY"], this.binary);
    chmodSync(this.binary, 0o755);
    const { code, stderr } = await start(this.binary, ["hook", "install", "claude-code"], this.project, this.env);
    assert.equal(code, 0, stderr);
    return this;
  }

  /** Lets the agent run; its model asks for the tools of each turn, and then says that it is done. */
  async run(...script) {
    const answer = async ({ messages, tools }) => {
      if (!tools?.length) return [{ type: "text", text: "a title" }]; // the program's own errand
      this.turns.push(JSON.stringify(messages));
      const next = script.shift() ?? [{ type: "text", text: "done" }];
      return typeof next === "function" ? next() : next;
    };
    await standIn(answer, async (url) => {
      const args = ["-p", "go", "--output-format", "json", "--allowedTools", "Bash", "Write", "Task", "Agent"];
      this.done = await start(program, args, this.project, { ...this.env, ANTHROPIC_BASE_URL: url });
    });
    assert.deepEqual(script, [], `it has ended before: ${this.done.stdout}${this.done.stderr}`);
    return this;
  }

  wrote(name) {
    return existsSync(join(this.project, name));
  }

  async runs() {
    const { items } = await server.call("GET", `/v1/runs/?user_id=${this.user}`);
    return Promise.all(items.map((run) => server.call("GET", `/v1/runs/${run.id}`)));
  }
}

let calls = 0;
const bash = (command) => ({ type: "tool_use", id: `toolu_${++calls}`, name: "Bash", input: { command, description: "as the test says" } });
const write = (coder, name) => ({ type: "tool_use", id: `toolu_${++calls}`, name: "Write", input: { file_path: join(coder.project, name), content: "x" } });
const stepsOf = (run) => run.steps.map((step) => [step.tool_name, step.status, step.cost_usd]);

test("allowed calls run, are settled by how they ended, and cost what their tool does", async () => {
  const coder = await new Coder().install();
  await coder.run([bash("touch one")], [bash("touch two; exit 3")], [write(coder, "three")]);
  assert.deepEqual(["one", "two", "three"].map((name) => coder.wrote(name)), [true, true, true], coder.turns.at(-1));
  const [run] = await coder.runs();
  assert.deepEqual(stepsOf(run), [["Bash", "COMPLETED", 0.25], ["Bash", "FAILED", null], ["Write", "COMPLETED", null]]);
  assert.deepEqual([run.status, run.total_usd, run.metadata.agent], ["COMPLETED", 0.25, "claude-code"]);
  assert.match(JSON.stringify(run.steps[0].input_data), /touch one/);
});

test("a denied call does not run, and the model hears why", async () => {
  const coder = await new Coder().install();
  await coder.run([bash("touch one")], async () => {
    await server.killSwitch(true);
    return [bash("touch two"), write(coder, "three")];
  });
  await server.killSwitch(false);
  assert.deepEqual(["one", "two", "three"].map((name) => coder.wrote(name)), [true, false, false]);
  assert.equal(coder.turns.length, 3);
  for (const words of ["All agents of this workspace are stopped", "This call was not executed: it is not allowed"]) {
    assert.equal(coder.turns[2].split(words).length - coder.turns[1].split(words).length, 2, coder.turns[2]);
  }
  const [run] = await coder.runs();
  assert.deepEqual([run.status, ...stepsOf(run).map((step) => step[1])], ["COMPLETED", "COMPLETED", "BLOCKED", "BLOCKED"]);
});

test("a blocked user's calls do not run, and other users' do", async () => {
  const coder = await new Coder().install();
  await server.call("POST", "/v1/blocked-users", { user_id: coder.user });
  await coder.run([bash("touch one")]);
  assert.equal(coder.wrote("one"), false);
  assert.match(coder.turns[1], /This user is blocked/);
  const other = await new Coder().install();
  assert.equal((await other.run([bash("touch one")])).wrote("one"), true);
});

/** What keeps the hook from a decision; the calls of a session that has begun well do not run from then on. */
const troubles = {
  "no server": (coder) => (coder.env.PIKARC_BASE_URL = "http://127.0.0.1:9"),
  "a server that says nothing": async (coder) => {
    const silent = createServer(() => undefined).listen(0, "127.0.0.1");
    silent.unref();
    await new Promise((resolve) => silent.on("listening", resolve));
    Object.assign(coder.env, { PIKARC_BASE_URL: `http://127.0.0.1:${silent.address().port}`, PIKARC_TIMEOUT: "500ms" });
  },
  "another server at the address": (coder) => (coder.env.PIKARC_BASE_URL = `${server.base}/health`),
  "a key that is not accepted": (coder) => (coder.env.PIKARC_API_KEY = `lg_00000000_${"0".repeat(64)}`),
  "no binary": (coder) => rmSync(coder.binary),
  "a binary that cannot be run": (coder) => chmodSync(coder.binary, 0),
  "nowhere to keep what is open": (coder) => (coder.env.PIKARC_JOURNAL_DIR = coder.binary),
};
for (const [trouble, make] of Object.entries(troubles)) {
  test(`${trouble}: no call runs, and the model is told`, async () => {
    const coder = await new Coder().install();
    await make(coder);
    await coder.run([bash("touch one"), write(coder, "two")], [bash("touch three")]);
    assert.deepEqual(["one", "two", "three"].map((name) => coder.wrote(name)), [false, false, false]);
    assert.match(coder.turns.at(-1), /(guard \(Pikarc\)|Pikarc) has made no decision/);
  });
}

test("a server that stops in the middle of a session stops its next call", async () => {
  const own = await serve(process.env["PIKARC_BINARY"], mkdtempSync(join(work, "data-")));
  const coder = await new Coder().install();
  Object.assign(coder.env, { PIKARC_API_KEY: own.apiKey, PIKARC_BASE_URL: own.base });
  await coder.run([bash("touch one")], async () => {
    await own.stop();
    return [bash("touch two")];
  });
  assert.deepEqual([coder.wrote("one"), coder.wrote("two")], [true, false]);
  assert.match(coder.turns[2], /cannot be reached/);
});

test("the tools of a sub-agent are asked for too", async () => {
  const coder = await new Coder().install();
  const task = { type: "tool_use", id: "toolu_task", name: "Agent", input: { description: "d", prompt: "p", subagent_type: "general-purpose", run_in_background: false } };
  await coder.run([task], [bash("touch one")], async () => {
    await server.killSwitch(true);
    return [bash("touch two")];
  }); // prettier-ignore
  await server.killSwitch(false);
  assert.deepEqual([coder.wrote("one"), coder.wrote("two")], [true, false]);
  const [run] = await coder.runs();
  assert.deepEqual(run.steps.map((step) => step.tool_name).sort(), ["Agent", "Bash", "Bash"]);
});

test("pikarc doctor proves it of these very settings", async () => {
  const coder = await new Coder().install();
  const { code, stdout } = await start(coder.binary, ["doctor", "--agent", "claude-code"], coder.project, coder.env);
  assert.equal(code, 0, stdout);
});

test("without the hook nothing is asked, so that what is proved above is the hook's", async () => {
  const coder = await new Coder().install();
  await start(coder.binary, ["hook", "uninstall", "claude-code"], coder.project, coder.env);
  await server.killSwitch(true);
  await coder.run([bash("touch one")]);
  await server.killSwitch(false);
  assert.deepEqual([coder.wrote("one"), await coder.runs()], [true, []]);
});
