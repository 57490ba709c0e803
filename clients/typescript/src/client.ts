import { allow, goesOn, members, text, type Members } from "./answers.js";
import { makeStore } from "./context.js";
import { deliver, waits } from "./deliver.js";
import { APIError, PikarcBlockedError, PikarcError, Unavailable } from "./errors.js";
import { openJournal, type Journal } from "./journal.js";
import { payload } from "./json.js";
import { Run, type ModelCallOptions } from "./run.js";
import { settings, type Options, type Settings } from "./settings.js";
import { request } from "./transport.js";
import { wrap } from "./wrap.js";
import type { StartRunRequest } from "./wire.js";

/** The run around the code that runs now, of whichever client. */
const around = makeStore<{ run: Run; parent: unknown }>();

/** Of a run: for whom it is, and what else is known of it. */
export interface RunOptions {
  userId: string;
  metadata?: Members;
  /** Aborting it settles the open steps as FAILED "cancelled" and ends the run. */
  signal?: AbortSignal;
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
      return await (around ? around.run({ run, parent: around.getStore() }, () => body(run)) : body(run));
    } catch (error) {
      [failed, failure] = [true, error];
      throw error;
    } finally {
      clearInterval(beats);
      await run.end(!failed ? "COMPLETED" : isDenial(failure) ? "BLOCKED" : "FAILED");
    }
  }

  /**
   * Returns the run around the code that runs now, of this server and key. Throws where there is none: a call that belongs to
   * no run cannot be asked about, and is not made.
   */
  current(): Run {
    const run = this.enclosing();
    if (run) return run;
    const why = around ? "it is made within `guard.run(…)`" : "this runtime has no AsyncLocalStorage: use the run that `guard.run` passes";
    throw new PikarcError(`a guarded call belongs to a run: ${why}`);
  }

  private enclosing(): Run | undefined {
    let place = around?.getStore();
    while (place && !place.run.takes(this.settings)) place = place.parent as typeof place;
    return place?.run;
  }

  /** Returns a function that asks, within the run around it, before each call of `fn`. What it is called with is recorded. */
  tool<A extends unknown[], R>(toolName: string, fn: (...args: A) => Promise<R> | R): (...args: A) => Promise<R> {
    return async (...args) => this.current().toolCall(() => fn(...args), { toolName, inputData: recorded(args) });
  }

  /** As `tool`, for a function that calls a model. */
  model<A extends unknown[], R>(
    model: string,
    fn: (...args: A) => Promise<R> | R,
    options: Omit<ModelCallOptions<R>, "model" | "inputData"> = {},
  ): (...args: A) => Promise<R> {
    return async (...args) => this.current().modelCall(() => fn(...args), { ...options, model, inputData: recorded(args) });
  }

  /**
   * Returns a client of OpenAI or Anthropic whose calls of models are guarded within the run around them: chat completions,
   * responses, messages and embeddings, streams and helpers included. The client given is left as it is.
   */
  wrap<C extends object>(client: C): C {
    return wrap(this, client);
  }

  private async start(options: RunOptions): Promise<Run> {
    const start: StartRunRequest = { user_id: options.userId };
    const parent = this.enclosing()?.runId;
    const metadata = parent ? { parent_run_id: parent, ...options.metadata } : options.metadata;
    if (metadata !== undefined) start.metadata = payload(metadata);
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
  private async giveUp(journal: Journal, start: StartRunRequest, key: string): Promise<void> {
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
    return deliver(this.settings, await this.journal(), true);
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

/** Reports whether an error is a denial, or a framework's own around one. */
function isDenial(error: unknown): boolean {
  for (let depth = 0; error instanceof Error && depth < 10; depth++, error = error.cause) if (error instanceof PikarcBlockedError) return true;
  return false;
}

/** Of a function's arguments, what is recorded: one object as it is, else a list. */
function recorded(args: unknown[]): unknown {
  const [only] = args;
  return args.length === 1 && typeof only === "object" && only !== null && !Array.isArray(only) ? only : { args };
}
