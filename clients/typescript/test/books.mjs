import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import assert from "node:assert/strict";
import { Pikarc } from "../dist/index.js";

/** A server at the process's edge, which knows a request by its idempotency key. */
export class Books {
  byKey = new Map();
  runs = new Map();
  steps = new Map();
  metadata = new Map();
  tokens = 0;
  seen = 0;
  hook = () => undefined;

  fetch = async (url, init) => {
    const n = ++this.seen;
    this.hook(n, true);
    init.signal?.throwIfAborted();
    const id = this.carryOut(new URL(url).pathname.split("/"), init);
    this.hook(n, false);
    init.signal?.throwIfAborted();
    return Response.json({ id, status: "RUNNING", decision: { outcome: "ALLOW" } });
  };

  carryOut(path, init) {
    const body = JSON.parse(init.body ?? "{}");
    if (init.method === "PATCH") {
      this.steps.set(path[5], [body.status, body.error].filter(Boolean).join(" "));
      this.tokens += (body.prompt_tokens ?? 0) + (body.completion_tokens ?? 0);
      return path[5];
    }
    if (path.at(-1) === "end") {
      this.runs.set(path[3], body.status);
      return path[3];
    }
    const key = init.headers["idempotency-key"];
    const known = this.byKey.get(key);
    if (known) return known;
    const id = `id${this.byKey.size}`;
    this.byKey.set(key, id);
    if (body.metadata) this.metadata.set(id, body.metadata);
    (path.at(-1) === "steps" ? this.steps : this.runs).set(id, "RUNNING");
    return id;
  }

  client(options = {}) {
    const journalDir = mkdtempSync(join(tmpdir(), "pikarc-"));
    return new Pikarc({ apiKey: "lg_test", baseUrl: "http://pikarc", journalDir, maxRetries: 0, fetch: this.fetch, ...options });
  }

  assertSettled() {
    assert.ok(![...this.runs.values(), ...this.steps.values()].includes("RUNNING"), JSON.stringify([[...this.runs], [...this.steps]]));
  }
}
