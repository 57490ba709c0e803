import assert from "node:assert/strict";
import { test } from "node:test";
import { pikarcHooks } from "../dist/adapters/claude-agent.js";
import { Books } from "./books.mjs";

const input = { hook_event_name: "PreToolUse", tool_name: "Bash", tool_input: { command: "ls" } };

test("a tool of the Claude Agent SDK is asked for, and settled by what came of it", async () => {
  const books = new Books();
  const guard = books.client();
  await guard.run({ userId: "ada" }, async () => {
    const { PreToolUse, PostToolUse, PostToolUseFailure } = pikarcHooks(guard);
    assert.deepEqual([await PreToolUse[0].hooks[0](input, "a"), await PreToolUse[0].hooks[0](input, "b")], [{}, {}]);
    await PostToolUse[0].hooks[0]({ ...input, hook_event_name: "PostToolUse" }, "a");
    await PostToolUseFailure[0].hooks[0]({ ...input, hook_event_name: "PostToolUseFailure", error: "no such file" }, "b");
  });
  assert.deepEqual([...books.steps.values()], ["COMPLETED", "FAILED Error: no such file"]);
  books.assertSettled();
});

for (const [what, answer] of [
  ["a denial", () => Response.json({ id: "s", decision: { outcome: "DENY", reason: "USER_BLOCKED" } })],
  ["a 500", () => new Response("{}", { status: 500 })],
  ["a 401", () => new Response("{}", { status: 401 })],
  ["a crash", () => { throw new RangeError("a bug"); }],
]) { // prettier-ignore
  test(`${what} denies a tool of the Claude Agent SDK`, async () => {
    const books = new Books();
    const guard = books.client({ fetch: (url, init) => (url.endsWith("/steps") ? answer() : books.fetch(url, init)) });
    await guard.run({ userId: "ada" }, async () => {
      const out = await pikarcHooks(guard).PreToolUse[0].hooks[0](input, "a");
      assert.equal(out.hookSpecificOutput.permissionDecision, "deny");
      assert.match(out.hookSpecificOutput.permissionDecisionReason, /not executed/);
    });
  });
}
