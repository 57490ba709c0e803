/** For the Claude Agent SDK (package `@anthropic-ai/claude-agent-sdk`): its query under guard, or hooks around each tool alone. */
import type { Members } from "../answers.js";
import type { Pikarc } from "../client.js";
import { PikarcBlockedError } from "../errors.js";
import type { OpenStep } from "../step.js";

interface HookInput {
  hook_event_name: string;
  agent_id?: string;
  prompt?: string;
  tool_name?: string;
  tool_input?: unknown;
  error?: string;
}
type Hook = (input: HookInput, id?: string) => Promise<object>;
interface Matcher {
  hooks: Hook[];
  timeout: number;
  onFailure: "block";
}

/** What the program counts of a model in the end, and what it is called in an answer of the API. */
const COUNTS = [
  ["inputTokens", "input_tokens"],
  ["outputTokens", "output_tokens"],
  ["cacheReadInputTokens", "cache_read_input_tokens"],
  ["cacheCreationInputTokens", "cache_creation_input_tokens"],
] as const;

/**
 * As the SDK's `query`, under guard: `for await (const message of pikarcQuery(guard, query, { prompt, options }))`, within a run.
 * Each tool is asked about, those of sub-agents too, and each call of a model that the agent itself makes. What sub-agents and the
 * program's own errands use is booked with the agent's last call, or by the model where it is another. A denied tool is told to the
 * model; a denied model and trouble with the guard stop the agent, and are thrown when the messages have ended.
 */
export async function* pikarcQuery<M>(
  guard: Pikarc,
  query: (params: any) => AsyncIterable<M>,
  params: { prompt: unknown; options?: Record<string, any> },
  options: { timeoutSeconds?: number } = {},
): AsyncGenerator<M> {
  const own = params.options ?? {};
  const session = new Session(guard, typeof own["model"] === "string" ? own["model"] : "claude");
  const hooks = session.hooks(options.timeoutSeconds ?? 600, own["hooks"] as Record<string, unknown[]> | undefined);
  try {
    for await (const message of query({ ...params, options: { ...own, hooks, includePartialMessages: true } })) {
      await session.see(message as Members);
      if (own["includePartialMessages"] === true || (message as Members)["type"] !== "stream_event") yield message;
    }
  } finally {
    await session.settleRest();
  }
  if (session.stoppedBy !== undefined) throw session.stoppedBy;
}

/** Guards the tools alone: `query({ prompt, options: { hooks: pikarcHooks(guard) } })`, called within a run. */
export function pikarcHooks(guard: Pikarc, options: { timeoutSeconds?: number } = {}) {
  const { UserPromptSubmit, PostToolBatch, ...tools } = new Session(guard, "claude", true).hooks(options.timeoutSeconds ?? 600);
  return tools as Record<"PreToolUse" | "PostToolUse" | "PostToolUseFailure", Matcher[]>;
}

class Session {
  stoppedBy: unknown;
  private readonly run; // hooks are called from the SDK's own reader, outside of the run
  private readonly models: OpenStep[] = []; // asked about, and not yet settled
  private readonly tools = new Map<string, OpenStep>();
  private call: { model: string; usage: Members; isLast?: boolean } | undefined; // of the answer that comes in
  private readonly booked = new Map<string, number>();

  constructor(guard: Pikarc, private readonly model: string, private readonly toolsAlone = false) {
    this.run = guard.current();
  }

  hooks(timeout: number, own: Record<string, unknown[]> = {}): Record<string, unknown[]> {
    // The SDK lets a tool run whose hook fails, unless it is told to block.
    const matcher = (hook: Hook): Matcher[] => [{ hooks: [hook], timeout, onFailure: "block" }];
    const ours = {
      UserPromptSubmit: matcher(this.beforeModel),
      PostToolBatch: matcher(this.beforeModel),
      PreToolUse: matcher(this.beforeTool),
      PostToolUse: matcher(this.afterTool),
      PostToolUseFailure: matcher(this.afterTool),
    };
    return { ...own, ...Object.fromEntries(Object.entries(ours).map(([event, matchers]) => [event, [...(own[event] ?? []), ...matchers]])) };
  }

  private readonly beforeModel: Hook = async (input) => {
    if (input.agent_id) return {}; // a sub-agent's
    try {
      this.models.push(await this.run.beginModel({ model: this.model, inputData: { prompt: input.prompt } }));
      return {};
    } catch (error) {
      return this.stop(error);
    }
  };

  private readonly beforeTool: Hook = async (input, id) => {
    try {
      if (!input.tool_name || !id) throw new TypeError("the hook was not told which tool it is");
      this.tools.set(id, await this.run.beginTool({ toolName: input.tool_name, inputData: input.tool_input }));
      return {};
    } catch (error) {
      const denied = error instanceof PikarcBlockedError;
      const why = denied ? error.forModel() : `This call was not executed: the guard cannot be asked. ${String(error)}`;
      const denial = { hookEventName: "PreToolUse", permissionDecision: "deny", permissionDecisionReason: why };
      // Where models are not asked about, a stop of everything must end the agent here.
      const goesOn = denied && !(this.toolsAlone && error.reason === "KILL_SWITCH_ACTIVE");
      return { ...(goesOn ? {} : this.stop(error)), hookSpecificOutput: denial };
    }
  };

  private readonly afterTool: Hook = async (input, id) => {
    const step = this.tools.get(id ?? "");
    this.tools.delete(id ?? "");
    await (input.hook_event_name === "PostToolUseFailure" ? step?.fail(new Error(input.error ?? "failed")) : step?.complete());
    return {};
  };

  private stop(error: unknown): object {
    this.stoppedBy ??= error;
    return { continue: false, stopReason: String(error) };
  }

  /** Reads what each call used from its events, and what else was used from the result. */
  async see(message: Members): Promise<void> {
    if (message["type"] === "result") return this.bookRest((message["modelUsage"] ?? {}) as Record<string, Members>);
    if (message["type"] !== "stream_event" || message["parent_tool_use_id"]) return;
    const event = message["event"] as Record<string, any>;
    if (event["type"] === "message_start") this.call = { model: event["message"].model, usage: { ...event["message"].usage } };
    if (event["type"] === "message_delta" && this.call) {
      Object.assign(this.call.usage, Object.fromEntries(Object.entries(event["usage"] ?? {}).filter(([, count]) => count !== null)));
      this.call.isLast = event["delta"].stop_reason !== "tool_use";
    }
    if (event["type"] !== "message_stop" || !this.call || !this.models.length) return;
    for (const [, name] of COUNTS) this.book(this.call.model, name, Number(this.call.usage[name] ?? 0));
    if (this.call.isLast) return; // it waits for the result
    const call = this.call;
    this.call = undefined;
    await this.models.shift()?.complete(call);
  }

  private book(model: string, name: string, count: number): void {
    this.booked.set(`${name} ${model}`, (this.booked.get(`${name} ${model}`) ?? 0) + count);
  }

  private async bookRest(total: Record<string, Members>): Promise<void> {
    let last = this.call;
    this.call = undefined;
    for (const [model, counts] of Object.entries(total)) {
      const rest = Object.fromEntries(
        COUNTS.map(([theirs, name]) => [name, Number(counts[theirs] ?? 0) - (this.booked.get(`${name} ${model}`) ?? 0)]),
      );
      if (!Object.values(rest).some((count) => count > 0)) continue;
      for (const [name, count] of Object.entries(rest)) this.book(model, name, count);
      if (model !== last?.model && (await this.bookOther(model, rest))) continue;
      last ??= { model, usage: {} };
      for (const [name, count] of Object.entries(rest)) last.usage[name] = Number(last.usage[name] ?? 0) + count;
    }
    if (last) await this.models.shift()?.complete(last);
  }

  /** Books what was used of another model, and reports whether that is allowed. */
  private async bookOther(model: string, usage: Members): Promise<boolean> {
    try {
      await (await this.run.beginModel({ model })).complete({ model, usage });
      return true;
    } catch {
      return false;
    }
  }

  /** Settles what nobody has told the end of: a model that failed, a tool that was not permitted in the end. */
  async settleRest(): Promise<void> {
    const left = [...this.models.splice(0), ...this.tools.values()];
    this.tools.clear();
    for (const step of left) await step.fail(new Error("the call was not made, or its end was not told"));
  }
}
