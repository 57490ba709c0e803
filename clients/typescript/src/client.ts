import {
  APIError,
  Authentication,
  BadRequest,
  PikarcBlockedError,
  RateLimited,
  ReviewDenied,
  ReviewExpired,
  ReviewPending,
  Unavailable,
} from "./errors.js";
import { openJournal, type Entry, type Journal } from "./journal.js";
import { describe, payload } from "./json.js";
import { settings, type Options, type Settings } from "./settings.js";
import { request, sleep, type Sending } from "./transport.js";
import { find, report as usageOf, type TokenExtractor } from "./usage.js";

type Members = Record<string, unknown>;

/** Of a run: for whom it is, and what else is known of it. */
export interface RunOptions {
  userId: string;
  metadata?: Members;
  /** Aborting it settles the open steps as FAILED "cancelled" and ends the run. */
  signal?: AbortSignal;
}

export interface ModelCallOptions<T> {
  /** The model's name, by which it is priced. */
  model: string;
  /** What is recorded as its input. */
  inputData?: unknown;
  /** Without it, usage is found by the shape of what OpenAI, Anthropic, Gemini, Bedrock and the AI SDK return. */
  tokenExtractor?: TokenExtractor<T>;
}

export interface ToolCallOptions {
  toolName: string;
  inputData?: unknown;
}

interface Step {
  id: string | undefined; // undefined: the server could not be asked, and the call goes on
  body: Members;
  key: string;
}

/** The client. Its methods throw PikarcBlockedError for a denial and APIError for trouble; the function is not called then. */
export class Pikarc {
  private readonly settings: Settings;
  private journalOpened: Promise<Journal> | undefined;

  constructor(options: Options = {}) {
    this.settings = settings(options);
  }

  /** Returns a client with other settings. */
  withOptions(changes: Options): Pikarc {
    const s = this.settings;
    const twin = new Pikarc({ ...s, ...(s.journalDir === undefined ? {} : { journalDir: s.journalDir }), ...changes } as Options);
    return twin;
  }

  /** Starts a run, calls `body` with it, and ends it: COMPLETED, FAILED on an exception, BLOCKED on a denial. */
  async run<T>(options: RunOptions, body: (run: Run) => Promise<T> | T): Promise<T> {
    const run = await this.start(options);
    let failure: unknown;
    let failed = false;
    const beats = setInterval(() => run.keepAlive(), this.settings.heartbeat);
    (beats as { unref?: () => void }).unref?.();
    try {
      return await body(run);
    } catch (error) {
      [failed, failure] = [true, error];
      throw error;
    } finally {
      clearInterval(beats);
      await run.end(!failed ? "COMPLETED" : failure instanceof PikarcBlockedError ? "BLOCKED" : "FAILED");
    }
  }

  private async start(options: RunOptions): Promise<Run> {
    const start: Members = { user_id: options.userId };
    if (options.metadata !== undefined) start["metadata"] = payload(options.metadata);
    const key = crypto.randomUUID();
    const journal = await this.journal();
    let answer: Members;
    try {
      answer = await request(this.settings, "POST", "/v1/runs/", start, { key, signal: options.signal });
      text(answer, "id");
    } catch (error) {
      // Aborted: the server may have started it, and would hold its place.
      if (options.signal?.aborted) await this.giveUp(journal, start, key);
      if (!(error instanceof Unavailable) || !goesOn(this.settings, error)) throw error;
      return new Run(this.settings, journal, undefined, start, key, options.signal);
    }
    const run = new Run(this.settings, journal, text(answer, "id"), start, key, options.signal);
    if (allow(answer, run.runId) !== undefined) throw new PikarcBlockedError({ reason: "REVIEW_ERROR", runId: run.runId });
    await deliver(this.settings, journal);
    return run;
  }

  /** Ends a run whose start was aborted. The start is sent again with its key, to learn whether there is one. */
  private async giveUp(journal: Journal, start: Members, key: string): Promise<void> {
    const { grace } = this.settings;
    try {
      const answer = await request(this.settings, "POST", "/v1/runs/", start, { key, grace });
      if (members(answer["decision"])["outcome"] !== "ALLOW") return;
      await request(this.settings, "POST", `/v1/runs/${text(answer, "id")}/end`, { status: "FAILED" }, { grace });
    } catch (error) {
      if (error instanceof APIError && !waits(error)) return;
      await journal.append({ kind: "end", start, key, status: "FAILED", at: Date.now() });
    }
  }

  /** Delivers the reports that wait, and returns how many were. */
  async flush(): Promise<number> {
    return deliver(this.settings, await this.journal());
  }

  /** The number of reports that wait for the server, of all processes with the same key. */
  async journalLength(): Promise<number> {
    return (await this.journal()).length();
  }

  private journal(): Promise<Journal> {
    return (this.journalOpened ??= owner(this.settings).then((name) => openJournal(this.settings.journalDir, name)));
  }
}

/** Names whose reports a journal's file holds: the server and the key, neither of which can be read from it. */
async function owner(s: Settings): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(`${s.baseUrl}\n${s.apiKey}`));
  return [...new Uint8Array(digest).slice(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A run, within `Pikarc.run`. */
export class Run {
  private sequence = 0;
  private calls = 0;
  private unguarded = false;

  /** @internal */
  constructor(
    private readonly settings: Settings,
    private readonly journal: Journal,
    private readonly id: string | undefined,
    private readonly start: Members,
    private readonly key: string,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** The run's id; "" for one that the server could not be asked about. */
  get runId(): string {
    return this.id ?? "";
  }

  /** Asks whether a model may be called, calls `fn`, and reports what it used. */
  modelCall<T>(fn: () => Promise<T> | T, options: ModelCallOptions<T>): Promise<T> {
    return this.guard({ type: "MODEL_CALL", model: options.model }, fn, options.inputData, (result) =>
      usageOf(result, options.tokenExtractor),
    );
  }

  /** Asks whether a tool may be called, calls `fn`, and reports that it was. */
  toolCall<T>(fn: () => Promise<T> | T, options: ToolCallOptions): Promise<T> {
    return this.guard({ type: "TOOL_CALL", tool_name: options.toolName }, fn, options.inputData, () => ({}));
  }

  /**
   * As modelCall, where `fn` returns a stream of chunks. They are passed on untouched. Usage is what the stream says; of one
   * that is broken off, what came is counted.
   */
  async modelStream<T>(
    fn: () => Promise<AsyncIterable<T>> | AsyncIterable<T>,
    options: ModelCallOptions<unknown>,
  ): Promise<AsyncIterable<T>> {
    const step = await this.ask({ type: "MODEL_CALL", model: options.model }, options.inputData);
    const started = performance.now();
    let chunks: AsyncIterable<T>;
    try {
      chunks = await fn();
    } catch (error) {
      await this.settle(step, started, this.failure(error));
      throw error;
    }
    return this.pass(chunks, step, started, options);
  }

  private async *pass<T>(chunks: AsyncIterable<T>, step: Step, started: number, options: ModelCallOptions<unknown>): AsyncGenerator<T> {
    let usage: Members = {};
    let count = 0;
    let outcome: Members | undefined;
    this.calls++;
    try {
      for await (const chunk of chunks) {
        count++;
        try {
          // Anthropic says the input at the start and the output at the end: later members win.
          usage = { ...usage, ...Object.fromEntries(Object.entries(find(chunk) ?? {}).filter(([, v]) => v !== null)) };
        } catch {
          // a chunk that cannot be read is passed on all the same
        }
        yield chunk;
      }
      outcome = { status: "COMPLETED", ...usageOf({ usage }, options.tokenExtractor) };
    } catch (error) {
      outcome = { ...this.failure(error), ...partly(usage, count) };
      throw error;
    } finally {
      this.calls--;
      await this.settle(step, started, outcome ?? { status: "COMPLETED", ...partly(usage, count) });
    }
  }

  private async guard<T>(
    what: Members,
    fn: () => Promise<T> | T,
    inputData: unknown,
    used: (result: T) => Members,
  ): Promise<T> {
    const step = await this.ask(what, inputData);
    const started = performance.now();
    this.calls++;
    let result: T;
    try {
      result = await this.untilAborted(fn);
    } catch (error) {
      await this.settle(step, started, this.failure(error));
      throw error;
    } finally {
      this.calls--;
    }
    await this.settle(step, started, { status: "COMPLETED", ...used(result) });
    return result;
  }

  /** Calls the function, and stops waiting for it when the run is aborted. */
  private async untilAborted<T>(fn: () => Promise<T> | T): Promise<T> {
    const signal = this.signal;
    if (!signal) return fn();
    signal.throwIfAborted();
    let stop: (() => void) | undefined;
    const aborted = new Promise<never>((_, reject) => {
      stop = () => reject(signal.reason);
      signal.addEventListener("abort", stop, { once: true });
    });
    try {
      return await Promise.race([fn(), aborted]);
    } finally {
      if (stop) signal.removeEventListener("abort", stop);
    }
  }

  private async ask(what: Members, inputData: unknown): Promise<Step> {
    const body: Members = { ...what, sequence: ++this.sequence };
    if (inputData !== undefined) body["input_data"] = payload(inputData);
    const step: Step = { id: undefined, body, key: crypto.randomUUID() };
    if (this.id === undefined) {
      this.unguarded = true;
      return step;
    }
    let answer: Members;
    try {
      answer = await request(this.settings, "POST", `/v1/runs/${this.id}/steps`, body, { key: step.key, signal: this.signal });
      step.id = text(answer, "id");
    } catch (error) {
      // Aborted: the server may have allowed it, and would take it for running.
      if (this.signal?.aborted) await this.giveUp(step);
      if (!(error instanceof Unavailable) || !goesOn(this.settings, error)) throw error;
      this.unguarded = true;
      return step;
    }
    const review = allow(answer, this.id);
    if (review !== undefined) await this.waitForReview(step.id, review, members(answer["decision"])["policy_name"]);
    return step;
  }

  /** Settles a step that was aborted while it was asked for; asking again with its key tells which it is. */
  private async giveUp(step: Step): Promise<void> {
    try {
      const sending = { key: step.key, grace: this.settings.grace };
      const answer = await request(this.settings, "POST", `/v1/runs/${this.id}/steps`, step.body, sending);
      if (members(answer["decision"])["outcome"] !== "ALLOW") return;
      await this.settle({ ...step, id: text(answer, "id") }, performance.now(), { status: "FAILED", error: "cancelled" });
    } catch (error) {
      console.warn("pikarc: an aborted step could not be followed up; it ends with its run:", (error as Error).message);
    }
  }

  private async waitForReview(stepId: string, reviewId: string, policy: unknown): Promise<void> {
    const facts = { runId: this.id, stepId, policyName: typeof policy === "string" ? policy : undefined };
    const rule = this.settings.onReview;
    if (rule === "raise" || (typeof rule === "function" && !rule(reviewId))) throw new ReviewPending(facts, reviewId);
    const until = Date.now() + this.settings.reviewTimeout;
    while (Date.now() < until) {
      const asked = Date.now();
      const wait = Math.max(1, Math.min(25, Math.floor((until - asked) / 1000)));
      const review = await request(this.settings, "GET", `/v1/reviews/${reviewId}?wait=${wait}`, undefined, { signal: this.signal });
      if (review["status"] === "approved") return;
      if (review["status"] === "denied") {
        const resolution = review["resolution"] ?? "denied";
        if (resolution !== "denied") throw new ReviewExpired(facts);
        throw new ReviewDenied(facts, typeof review["note"] === "string" ? review["note"] : undefined);
      }
      if (Date.now() - asked < 1000) await sleep(2000, this.signal); // a server that does not hold its answer back
    }
    throw new ReviewExpired(facts);
  }

  private failure(error: unknown): Members {
    const cancelled = this.signal?.aborted && error === this.signal.reason;
    return { status: "FAILED", error: cancelled ? "cancelled" : describe(error) };
  }

  private async settle(step: Step, started: number, outcome: Members): Promise<void> {
    const report = { duration_ms: Math.round(performance.now() - started), ...outcome };
    if (step.id !== undefined) {
      await this.send("PATCH", `/v1/runs/${this.id}/steps/${step.id}`, report);
      return;
    }
    await this.journal.append({ kind: "step", ...this.named(), step: step.body, stepKey: step.key, report, at: Date.now() });
  }

  /** @internal */
  async end(status: string): Promise<void> {
    // What was done without asking is told before the end, after which the server takes no step.
    if (this.unguarded) await deliver(this.settings, this.journal);
    if (this.id === undefined || (this.unguarded && (await this.journal.mayHold()))) {
      await this.journal.append({ kind: "end", ...this.named(), status, at: Date.now() });
      return;
    }
    await this.send("POST", `/v1/runs/${this.id}/end`, { status });
  }

  /** @internal */
  keepAlive(): void {
    if (this.calls === 0 || this.id === undefined) return;
    // What it answers counts at the next step.
    request(this.settings, "POST", `/v1/runs/${this.id}/heartbeat`, undefined, { grace: this.settings.timeout }).catch(() => undefined);
  }

  /** How a kept report names the run: by its id, or by the request that starts it, which is sent again. */
  private named(): Pick<Entry, "runId" | "start" | "key"> {
    return this.id !== undefined ? { runId: this.id } : { start: this.start, key: this.key };
  }

  /** Sends a report, and throws nothing: what cannot be delivered is kept. */
  private async send(method: string, path: string, body: Members): Promise<void> {
    const sending: Sending = this.signal?.aborted ? { grace: this.settings.grace } : {};
    try {
      await request(this.settings, method, path, body, sending);
    } catch (error) {
      if (error instanceof APIError && !waits(error)) {
        console.error("pikarc: the server does not take a report:", error.message);
        return;
      }
      await this.journal.append({ kind: "request", method, path, body, at: Date.now() });
    }
  }
}

/** Of a stream that was broken off, its chunks are counted, a token each at least. */
function partly(usage: Members, chunks: number): Members {
  return Object.keys(usage).length ? usageOf({ usage }, undefined) : { completion_tokens: chunks };
}

/** Reports whether a report is worth another try later. */
function waits(error: APIError): boolean {
  return error instanceof Unavailable || error instanceof RateLimited || error instanceof Authentication;
}

function goesOn(s: Settings, error: Unavailable): boolean {
  const on = typeof s.onUnavailable === "function" ? s.onUnavailable(error) === true : s.onUnavailable === "open";
  if (on) console.warn("pikarc: the server cannot be asked; the call goes on unguarded:", error.message);
  return on;
}

/** Returns the id of the review to wait for, or undefined for ALLOW. Anything else is not allowed. */
function allow(answer: Members, runId: string | undefined): string | undefined {
  const decision = members(answer["decision"]);
  if (decision["outcome"] === "ALLOW") return undefined;
  const known = <T>(name: string, type: string) => (typeof decision[name] === type ? (decision[name] as T) : undefined);
  if (decision["outcome"] === "REVIEW") {
    const review = answer["review_id"] ?? decision["review_id"];
    if (typeof review === "string") return review;
    throw new PikarcBlockedError({ reason: "REVIEW_ERROR", runId });
  }
  if (decision["outcome"] !== "DENY") throw new Unavailable(`The server's answer holds no decision: ${JSON.stringify(answer).slice(0, 200)}`);
  throw new PikarcBlockedError({
    reason: known<string>("reason", "string") ?? "DENIED",
    policyName: known<string>("policy_name", "string"),
    limit: known<number>("limit", "number"),
    used: known<number>("used", "number"),
    resetsAt: known<string>("resets_at", "string"),
    message: known<string>("message", "string"),
    runId,
    stepId: typeof answer["id"] === "string" ? answer["id"] : undefined,
  });
}

function members(value: unknown): Members {
  return typeof value === "object" && value !== null ? (value as Members) : {};
}

function text(answer: Members, name: string): string {
  const value = answer[name];
  if (typeof value !== "string" || value === "") {
    throw new Unavailable(`The server's answer holds no ${name}: ${JSON.stringify(answer).slice(0, 200)}`);
  }
  return value;
}

/** Delivers kept reports, and returns how many. One that fails stays for the next time; it throws nothing. */
async function deliver(s: Settings, journal: Journal): Promise<number> {
  let count = 0;
  if (!(await journal.mayHold())) return count;
  await journal.drain(async (entries) => {
    for (const [i, entry] of entries.entries()) {
      try {
        await deliverOne(s, entry);
        count++;
      } catch (error) {
        if (!(error instanceof APIError) || waits(error)) return entries.slice(i);
        console.error("pikarc: the server does not take a kept report, which is dropped:", error.message);
      }
    }
    return [];
  });
  return count;
}

/** Delivers one report. Requests are repeated with their first keys: what has reached the server is no double. */
async function deliverOne(s: Settings, entry: Entry): Promise<void> {
  if (entry.kind === "request") {
    await request(s, entry.method ?? "", entry.path ?? "", entry.body);
    return;
  }
  const started = () => request(s, "POST", "/v1/runs/", entry.start, { key: entry.key ?? "" });
  const runId = entry.runId ?? text(await started(), "id");
  if (entry.kind === "end") {
    await request(s, "POST", `/v1/runs/${runId}/end`, { status: entry.status });
    return;
  }
  const answer = await request(s, "POST", `/v1/runs/${runId}/steps`, entry.step, { key: entry.stepKey ?? "" });
  try {
    // The mark is where the run's page shows it.
    await request(s, "PATCH", `/v1/runs/${runId}/steps/${text(answer, "id")}`, { ...entry.report, output_data: { unguarded: true } });
  } catch (error) {
    if (!(error instanceof BadRequest)) throw error; // denied afterwards: the server books nothing on what it denied
    console.error("pikarc: a call was made while the server could not be asked, and would have been denied:", error.message);
  }
}
