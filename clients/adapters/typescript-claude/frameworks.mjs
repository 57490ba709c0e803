// The Claude Agent SDK with its own program, whose requests go to a stand-in for Anthropic on this machine.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSdkMcpServer, query, tool } from "@anthropic-ai/claude-agent-sdk";
import { pikarcQuery } from "../../typescript/dist/adapters/claude-agent.js";
import { standIn } from "../typescript/anthropic.mjs";

const { dependencies } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));
export const set = "typescript-claude";
export const examples = ["with_claude_agent.mjs"];
export const model = "conformance-model";
export const perCall = 15;

/** Calls of all tools at the first turn, then the last words. */
const answer = ({ turns, tools }) => ({ messages }) =>
  turns.push(JSON.stringify(messages)) === 1
    ? Object.keys(tools).map((name) => ({ type: "tool_use", id: `toolu_${name}`, name: `mcp__tools__${name}`, input: {} }))
    : [{ type: "text", text: "done" }]; // prettier-ignore

async function run(given) {
  const directory = mkdtempSync(join(tmpdir(), "pikarc-claude-"));
  const content = (text) => ({ content: [{ type: "text", text }] });
  const tools = Object.entries(given.tools).map(([name, execute]) => tool(name, name, {}, async () => content(await execute())));
  const abortController = new AbortController();
  given.signal?.addEventListener("abort", () => abortController.abort());
  try {
    await standIn(answer(given), async (url) => {
      const options = {
        model, tools: [], settingSources: [], cwd: directory, maxTurns: 5, abortController,
        mcpServers: { tools: createSdkMcpServer({ name: "tools", version: "1.0.0", tools }) },
        allowedTools: Object.keys(given.tools).map((name) => `mcp__tools__${name}`),
        // Nothing of this machine's own settings reaches the program.
        env: {
          PATH: process.env["PATH"], HOME: directory, ANTHROPIC_BASE_URL: url, ANTHROPIC_API_KEY: "k", CLAUDE_CONFIG_DIR: directory,
          CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1", IS_SANDBOX: "1",
        },
      }; // prettier-ignore
      for await (const message of pikarcQuery(given.guard, query, { prompt: "go", options })) void message;
    });
  } finally {
    rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  }
}

export const frameworks = [{ name: "Claude Agent SDK", version: dependencies["@anthropic-ai/claude-agent-sdk"], run }];
