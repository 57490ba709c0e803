// Holds the adapters to one list of properties, with the real frameworks, their fake models, and the real server.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { Pikarc } from "../../typescript/dist/index.js";
import { serve } from "./server.mjs";

// Of another set: the module of its frameworks, beside what it has installed.
const given = process.env["PIKARC_FRAMEWORKS"] ?? join(import.meta.dirname, "frameworks.mjs");
const { frameworks, model, perCall, set = "typescript", examples } = await import(given);

const work = mkdtempSync(join(tmpdir(), "pikarc-"));
let server, base, apiKey, call, killSwitch;

before(async () => {
  server = await serve(process.env["PIKARC_BINARY"], join(work, "data"));
  ({ base, apiKey, call, killSwitch } = server);
  await call("PUT", `/v1/model-pricing/${model}`, { input_cost_per_token: 0.001, output_cost_per_token: 0.001 });
});

const results = [];
after(async () => {
  await server?.stop();
  rmSync(work, { recursive: true, force: true });
  mkdirSync(new URL("../results", import.meta.url), { recursive: true });
  writeFileSync(new URL(`../results/${set}.json`, import.meta.url), JSON.stringify(results, null, 2) + "\n");
});

const count = { user: 0 };

/** What an agent did: `atTool` is in the place of the request by which a tool's step is asked for. */
class Trial {
  user = `user-${++count.user}`;
  called = [];
  turns = [];
  reports = [];
  error = undefined;

  constructor(framework, { atTool, onCall, names = ["t"], tools, reviews, signal, options } = {}) {
    Object.assign(this, { framework, atTool, onCall, names, tools, reviews, signal });
    this.guard = new Pikarc({ apiKey, baseUrl: base, journalDir: join(work, this.user), maxRetries: 0, timeout: 2000, fetch: this.fetch, ...options });
  }

  fetch = async (url, init) => {
    const body = JSON.parse(init.body ?? "{}");
    if (init.method === "PATCH") this.reports.push(body);
    if (url.includes("/v1/reviews/")) return Response.json(this.reviews.shift());
    if (this.atTool && body.tool_name) return this.atTool(url, init, body);
    return fetch(url, init);
  };

  tool = (name) => async () => {
    this.called.push(name);
    await this.onCall?.();
    return `${name} was done`;
  };

  async run() {
    const tools = this.tools?.(this) ?? Object.fromEntries(this.names.map((name) => [name, this.tool(name)]));
    const given = { guard: this.guard, tools, turns: this.turns, signal: this.signal };
    await this.guard.run({ userId: this.user, signal: this.signal }, () => this.framework.run(given)).catch((error) => (this.error = error));
    const { items } = await call("GET", `/v1/runs/?user_id=${this.user}`);
    this.runs = items;
    this.steps = (await Promise.all(items.map((run) => call("GET", `/v1/runs/${run.id}`)))).flatMap((run) => run.steps);
    return this;
  }

  get told() {
    return this.turns.at(-1);
  }
}

/** Denies by the real kill switch, for this one step. */
async function denied(url, init) {
  await killSwitch(true);
  try {
    return await fetch(url, init);
  } finally {
    await killSwitch(false);
  }
}

/** Those of MCP servers have their server's name before their own. */
const named = (body) => body.tool_name.split("__").at(-1);
const blocked = (atTool, options) => async (framework) => {
  const trial = await new Trial(framework, { atTool, options }).run();
  assert.deepEqual(trial.called, [], "the tool was called");
};
const toTheModel = (framework, trial, words) => {
  if (framework.tellsTheModel) assert.equal(trial.error?.name.startsWith("Pikarc") || trial.error?.name.startsWith("Review"), true);
  else assert.match(trial.told, words);
};

const properties = {
  "an allowed tool is executed": async (framework) => {
    const trial = await new Trial(framework).run();
    assert.equal(trial.error, undefined);
    assert.deepEqual([trial.called, trial.turns.length, trial.runs.map((run) => run.status)], [["t"], 2, ["COMPLETED"]]);
    assert.match(trial.told, /t was done/);
    assert.deepEqual(trial.steps.map((step) => step.status), ["COMPLETED", "COMPLETED", "COMPLETED"]);
  },
  "a denied tool is not executed": async (framework) => {
    const trial = await new Trial(framework, { atTool: denied }).run();
    assert.deepEqual(trial.called, []);
    toTheModel(framework, trial, /not executed/);
  },
  "a crash of the guard blocks": async (framework) => {
    const trial = new Trial(framework);
    const { toolCall } = Object.getPrototypeOf(await trial.guard.run({ userId: "other" }, (run) => run));
    assert.ok(toolCall);
    const current = trial.guard.current.bind(trial.guard);
    const crash = () => { throw new RangeError("a bug"); }; // prettier-ignore
    trial.guard.current = () => {
      const run = current();
      const method = (name) => run[name].bind(run);
      return { modelCall: method("modelCall"), modelStream: method("modelStream"), beginModel: method("beginModel"), toolCall: crash, beginTool: crash };
    };
    assert.deepEqual((await trial.run()).called, []);
  },
  "a time-out of the guard blocks": blocked((_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))), { timeout: 300 }),
  "a 500 blocks": blocked(() => new Response("{}", { status: 500 })),
  "a 401 blocks": blocked(() => new Response("{}", { status: 401 })),
  "a stopped server blocks": blocked((url, init) => fetch(url.replace(/:\d+/, ":1"), init)),
  "parallel tools are each asked for": async (framework) => {
    const atTool = (url, init, body) => (named(body) === "b" ? denied(url, init) : fetch(url, init));
    const allowed = await new Trial(framework, { names: ["a", "b", "c"] }).run();
    assert.deepEqual([allowed.called.sort(), allowed.steps.length], [["a", "b", "c"], 5]);
    const trial = await new Trial(framework, { names: ["b"], atTool }).run();
    assert.deepEqual(trial.called, []);
  },
  "tools of sub-agents are covered": async (framework) => {
    const inner = (trial) => ({
      agent: async () => (await framework.run({ guard: trial.guard, tools: { inner: trial.tool("inner") }, turns: [], signal: undefined }), "it has ended"),
    });
    const allowed = await new Trial(framework, { tools: inner }).run();
    assert.deepEqual([allowed.error, allowed.called, allowed.steps.length], [undefined, ["inner"], 6]);
    const atTool = (url, init, body) => (named(body) === "inner" ? denied(url, init) : fetch(url, init));
    assert.deepEqual((await new Trial(framework, { tools: inner, atTool }).run()).called, []);
  },
  "usage is booked once, with cached and reasoning tokens": async (framework) => {
    const trial = await new Trial(framework).run();
    const booked = trial.runs.reduce((sum, run) => sum + run.prompt_tokens + run.completion_tokens, 0);
    assert.equal(booked, 2 * perCall);
    const models = trial.steps.filter((step) => step.type === "MODEL_CALL");
    assert.deepEqual(models.map((step) => [step.prompt_tokens, step.completion_tokens, step.cached_tokens, step.reasoning_tokens]), [[10, 5, 4, 2], [10, 5, 4, 2]]); // prettier-ignore
  },
  "an abort settles": async (framework) => {
    const abort = new AbortController();
    const onCall = () => (abort.abort(), new Promise(() => undefined));
    const trial = await new Trial(framework, { onCall, signal: abort.signal }).run();
    // A stream that is aborted ends without an error in some frameworks; the run's own code decides then.
    assert.notEqual(trial.runs[0].status, "RUNNING");
    assert.deepEqual(trial.steps.map((step) => step.status).sort(), ["COMPLETED", "FAILED"]);
  },
  "the kill switch stops a running agent at its next step": async (framework) => {
    try {
      const trial = await new Trial(framework, { onCall: () => killSwitch(true) }).run();
      assert.deepEqual([trial.turns.length, trial.called, trial.runs.map((run) => run.status)], [1, ["t"], ["BLOCKED"]]);
    } finally {
      await killSwitch(false);
    }
  },
  "a review blocks until approved, and its refusal reaches the model as words": async (framework) => {
    const atTool = async (url, init) => {
      const step = await (await fetch(url, init)).json();
      return Response.json({ ...step, decision: { outcome: "REVIEW" }, review_id: "r1" });
    };
    const approved = await new Trial(framework, { atTool, reviews: [{ status: "approved" }] }).run();
    assert.deepEqual(approved.called, ["t"]);
    const refused = await new Trial(framework, { atTool, reviews: [{ status: "denied", resolution: "denied", note: "ask Ann first" }] }).run();
    assert.deepEqual(refused.called, []);
    toTheModel(framework, refused, /ask Ann first/);
  },
};

// Of each framework: as a stranger would run it, beside what the suite has installed.
for (const name of examples) {
  test(`the example ${name} runs`, { timeout: 60_000 }, async () => {
    const directory = mkdtempSync(join(dirname(given), ".example-"));
    try {
      copyFileSync(new URL(`../../../examples/${name}`, import.meta.url), join(directory, name));
      const env = { PATH: process.env["PATH"], PIKARC_API_KEY: apiKey, PIKARC_BASE_URL: base, PIKARC_JOURNAL_DIR: join(work, name) };
      const done = spawnSync(process.execPath, [join(directory, name)], { env, encoding: "utf8" });
      assert.match(done.stdout, /^Order 3 is refunded\. Run \S+\n$/, done.stderr);
      const run = await call("GET", `/v1/runs/${done.stdout.trim().split(" ").at(-1)}`);
      assert.deepEqual([run.status, ...run.steps.map((step) => (step.tool_name ? named(step) : step.model))], ["COMPLETED", "pretended-model", "refund", "pretended-model"]);
      assert.deepEqual([run.prompt_tokens, run.completion_tokens], [1000, 200]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
}

for (const framework of frameworks) {
  for (const [property, prove] of Object.entries(properties)) {
    test(`${framework.name}: ${property}`, { timeout: 30_000 }, async () => {
      const result = { framework: framework.name, version: framework.version, property, holds: false, reason: "" };
      results.push(result);
      await prove(framework);
      result.holds = true;
      if (framework.tellsTheModel && /denied|review/.test(property)) result.reason = framework.tellsTheModel;
    });
  }
}
