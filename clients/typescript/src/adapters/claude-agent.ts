/** For the Claude Agent SDK (package `@anthropic-ai/claude-agent-sdk`): hooks around each tool, sub-agents' included. */
import type { Pikarc } from "../client.js";
import { PikarcBlockedError } from "../errors.js";
import type { OpenStep } from "../step.js";

interface HookInput {
  hook_event_name: string;
  tool_name?: string;
  tool_input?: unknown;
  tool_response?: unknown;
  error?: string;
}

/**
 * Guards the tools of a query: `query({ prompt, options: { hooks: pikarcHooks(guard) } })`, called within a run. The SDK lets a
 * tool run whose hook fails or is slow: here, whatever goes wrong denies, and the time-out is longer than the client's own.
 */
export function pikarcHooks(guard: Pikarc, options: { timeoutSeconds?: number } = {}) {
  const run = guard.current(); // hooks are called from the SDK's own reader, outside of the run
  const open = new Map<string, OpenStep>();
  const before = async (input: HookInput, id?: string) => {
    try {
      if (!input.tool_name || !id) throw new TypeError("the hook was not told which tool it is");
      open.set(id, await run.beginTool({ toolName: input.tool_name, inputData: input.tool_input }));
      return {};
    } catch (error) {
      const why = error instanceof PikarcBlockedError ? error.forModel() : `This call was not executed: the guard cannot be asked. ${String(error)}`;
      return {
        // Trouble with the guard, and a stop of everything, end the agent.
        continue: error instanceof PikarcBlockedError && error.reason !== "KILL_SWITCH_ACTIVE",
        stopReason: why,
        hookSpecificOutput: { hookEventName: "PreToolUse" as const, permissionDecision: "deny" as const, permissionDecisionReason: why },
      };
    }
  };
  const after = async (input: HookInput, id?: string) => {
    const step = open.get(id ?? "");
    open.delete(id ?? "");
    await (input.hook_event_name === "PostToolUseFailure" ? step?.fail(new Error(input.error ?? "failed")) : step?.complete());
    return {};
  };
  const timeout = options.timeoutSeconds ?? 600;
  return {
    PreToolUse: [{ hooks: [before], timeout }],
    PostToolUse: [{ hooks: [after], timeout }],
    PostToolUseFailure: [{ hooks: [after], timeout }],
  };
}
