import type { Members } from "./answers.js";
import { PikarcError } from "./errors.js";
import { find, merge, modelOf, report as usageOf, type TokenExtractor, type UsageFinder } from "./usage.js";
import type { UpdateStepRequest } from "./wire.js";

/** The run has ended, and nobody has told what came of a call. */
export class NotReported extends PikarcError {}

/** How a step's call was settled, told to the run. */
export interface Settling {
  settle(outcome: UpdateStepRequest): Promise<void>;
  failure(error: unknown): UpdateStepRequest;
}

/** A step whose call another makes, as a framework between its hooks. It is settled once, by whatever comes first. */
export class OpenStep {
  private settled: Promise<void> | undefined;
  private usage: Members = {};
  private seen = 0;
  private answer: Members = {};

  /** @internal */
  constructor(
    private readonly run: Settling,
    private readonly isModel: boolean,
    private readonly options: { tokenExtractor?: TokenExtractor<never> | undefined; usage?: UsageFinder<never> | undefined } = {},
  ) {}

  /** Looks for usage in an answer of a model, or in a chunk of one. Never throws: what cannot be read is passed on all the same. */
  see(part: unknown): void {
    if (!this.isModel) return;
    this.seen++;
    try {
      const usage = this.options.usage?.(part as never) ?? find(part);
      // Anthropic says the input at the start and the output at the end: later members win.
      this.usage = merge(this.usage, usage);
      const model = modelOf(part);
      if (model) this.answer = { model };
    } catch {
      // said above
    }
  }

  /** Settles it as COMPLETED, with the usage that is found in what the call returned. */
  complete(result?: unknown): Promise<void> {
    if (result !== undefined) this.see(result);
    return this.end(() => ({ status: "COMPLETED", ...this.used(true) }));
  }

  /** Settles it as FAILED. */
  fail(error: unknown): Promise<void> {
    return this.end(() => ({ ...this.run.failure(error), ...this.used(false) }));
  }

  /** Settles a stream that is left early as COMPLETED, with what came. */
  leave(): Promise<void> {
    return this.end(() => ({ status: "COMPLETED", ...this.used(false) }));
  }

  private end(outcome: () => UpdateStepRequest): Promise<void> {
    return (this.settled ??= this.run.settle(outcome()));
  }

  /** Of a stream that was broken off, its chunks are counted, a token each at least. */
  private used(whole: boolean): UpdateStepRequest {
    if (!this.isModel) return {};
    if (Object.keys(this.usage).length) return usageOf({ ...this.answer, usage: this.usage }, this.options.tokenExtractor as never);
    return whole ? usageOf({}, this.options.tokenExtractor as never) : { completion_tokens: this.seen };
  }
}
