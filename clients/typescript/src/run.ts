import { allow, goesOn, members, text, type Members } from "./answers.js";
import { deliver, waits } from "./deliver.js";
import { APIError, ReviewDenied, ReviewExpired, ReviewPending, Unavailable } from "./errors.js";
import type { Entry, Journal } from "./journal.js";
import { describe, payload } from "./json.js";
import type { Settings } from "./settings.js";
import { request, sleep, type Sending } from "./transport.js";
import { OpenStep, NotReported } from "./step.js";
import { report as usageOf, type TokenExtractor, type UsageFinder } from "./usage.js";
import type { CreateStepRequest, EndRunRequest, StartRunRequest, UpdateStepRequest } from "./wire.js";

export interface ModelCallOptions<T> {
  /** The model's name, by which it is priced. */
  model: string;
  /** What is recorded as its input. */
  inputData?: unknown;
  /** Without it, usage is found by the shape of what OpenAI, Anthropic, Gemini, Bedrock and the AI SDK return. */
  tokenExtractor?: TokenExtractor<T>;
  /** Returns the provider's usage object of what was returned (or of a chunk), where it is not found by its shape. */
  usage?: UsageFinder<T>;
}

export interface ToolCallOptions {
  toolName: string;
  inputData?: unknown;
}

type Asked = Pick<CreateStepRequest, "type" | "model" | "tool_name">;

interface Step {
  id: string | undefined; // undefined: the server could not be asked, and the call goes on
  body: CreateStepRequest;
  key: string;
}

/** A run, within `Pikarc.run`. */
export class Run {
  private sequence = 0;
  private calls = 0;
  private unguarded = false;
  private ended = false;
  private readonly open = new Map<OpenStep, boolean>(); // steps that others settle, and whether they are streams

  /** @internal */
  constructor(
    private readonly settings: Settings,
    private readonly journal: Journal,
    private readonly id: string | undefined,
    private readonly start: StartRunRequest,
    private readonly key: string,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** @internal Reports whether this run can take calls of a client with these settings. */
  takes(s: Settings): boolean {
    return !this.ended && s.baseUrl === this.settings.baseUrl && s.apiKey === this.settings.apiKey;
  }

  /** The run's id; "" for one that the server could not be asked about. */
  get runId(): string {
    return this.id ?? "";
  }

  /** Asks whether a model may be called, calls `fn`, and reports what it used. */
  modelCall<T>(fn: () => Promise<T> | T, options: ModelCallOptions<T>): Promise<T> {
    return this.guard({ type: "MODEL_CALL", model: options.model }, fn, options.inputData, (result) =>
      usageOf(options.usage ? { ...own(result), usage: options.usage(result) } : result, options.tokenExtractor, result),
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
    options: ModelCallOptions<T>,
  ): Promise<AsyncGenerator<T>> {
    const step = await this.begin({ type: "MODEL_CALL", model: options.model }, options.inputData, options, true);
    try {
      const chunks = await this.untilAborted(fn);
      return this.pass(chunks[Symbol.asyncIterator](), step);
    } catch (error) {
      await step.fail(error);
      throw error;
    }
  }

  private async *pass<T>(chunks: AsyncIterator<T>, step: OpenStep): AsyncGenerator<T> {
    let whole = false;
    try {
      for (;;) {
        const next = await this.untilAborted(() => chunks.next());
        if (next.done) break;
        step.see(next.value);
        yield next.value;
      }
      whole = true;
      await step.complete();
    } catch (error) {
      await step.fail(error);
      throw error;
    } finally {
      if (!whole) {
        await step.leave();
        const closed = chunks.return?.();
        // One that was aborted while it was waited for may never answer.
        if (this.signal?.aborted) closed?.catch(() => undefined);
        else await closed;
      }
    }
  }

  /**
   * As toolCall, where another makes the call, as a framework between its hooks: settle the step by `complete` or `fail`.
   * What is still open when the run ends has failed.
   */
  beginTool(options: ToolCallOptions): Promise<OpenStep> {
    return this.begin({ type: "TOOL_CALL", tool_name: options.toolName }, options.inputData, undefined, false);
  }

  /** As modelCall, where another makes the call. What it used is told by `see` and `complete`. */
  beginModel(options: ModelCallOptions<never>): Promise<OpenStep> {
    return this.begin({ type: "MODEL_CALL", model: options.model }, options.inputData, options, true);
  }

  private async begin(
    what: Asked,
    inputData: unknown,
    options: ModelCallOptions<never> | undefined,
    isStream: boolean,
  ): Promise<OpenStep> {
    const asked = await this.ask(what, inputData);
    const started = performance.now();
    this.calls++;
    const step: OpenStep = new OpenStep(
      {
        failure: (error) => this.failure(error),
        settle: (outcome) => {
          this.calls--;
          this.open.delete(step);
          return this.settle(asked, started, outcome);
        },
      },
      what.type === "MODEL_CALL",
      options,
    );
    this.open.set(step, isStream);
    return step;
  }

  private async guard<T>(
    what: Asked,
    fn: () => Promise<T> | T,
    inputData: unknown,
    used: (result: T) => UpdateStepRequest,
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

  private async ask(what: Asked, inputData: unknown): Promise<Step> {
    const body: CreateStepRequest = { ...what, sequence: ++this.sequence };
    if (inputData !== undefined) body.input_data = payload(inputData);
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
    if (review === undefined) return step;
    try {
      await this.waitForReview(step.id, review, members(answer["decision"])["policy_name"]);
    } catch (error) {
      if (this.signal?.aborted) await this.settle(step, performance.now(), this.failure(error));
      throw error;
    }
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

  private failure(error: unknown): UpdateStepRequest {
    const cancelled = this.signal?.aborted && error === this.signal.reason;
    return { status: "FAILED", error: cancelled ? "cancelled" : describe(error) };
  }

  private async settle(step: Step, started: number, outcome: UpdateStepRequest): Promise<void> {
    const report: UpdateStepRequest = { duration_ms: Math.round(performance.now() - started), ...outcome };
    if (step.id !== undefined) {
      await this.send("PATCH", `/v1/runs/${this.id}/steps/${step.id}`, report);
      return;
    }
    await this.journal.append({ kind: "step", ...this.named(), step: step.body, stepKey: step.key, report, at: Date.now() });
  }

  /** @internal */
  async end(status: EndRunRequest["status"]): Promise<void> {
    for (const [step, isStream] of this.open) {
      if (this.signal?.aborted) await step.fail(this.signal.reason);
      else if (isStream) await step.leave();
      else await step.fail(new NotReported("what came of the call was not told"));
    }
    this.ended = true;
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
  private async send(method: string, path: string, body: UpdateStepRequest | EndRunRequest): Promise<void> {
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

/** Returns the members of an answer that may name its model. */
function own(result: unknown): Members {
  const { model, modelVersion } = members(result);
  return { model, modelVersion };
}
