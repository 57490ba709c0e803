// The Claude Agent SDK with its own program, whose requests go to a stand-in for Anthropic on this machine.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSdkMcpServer, query, tool } from "@anthropic-ai/claude-agent-sdk";
import { pikarcQuery } from "../../typescript/dist/adapters/claude-agent.js";

const { dependencies } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));
export const set = "typescript-claude";
export const examples = [];
export const model = "conformance-model";
export const perCall = 15;

const start = { input_tokens: 6, cache_read_input_tokens: 4, cache_creation_input_tokens: 0, output_tokens: 1 };
const end = { output_tokens: 5, output_tokens_details: { thinking_tokens: 2 } };

/** The events of an answer: calls of all tools at the first turn, then the last words. */
function answer({ turns, tools }, messages) {
  const first = turns.push(JSON.stringify(messages)) === 1;
  const blocks = first
    ? Object.keys(tools).map((name) => ({ type: "tool_use", id: `toolu_${name}`, name: `mcp__tools__${name}`, input: {} }))
    : [{ type: "text", text: "" }];
  const delta = first ? { type: "input_json_delta", partial_json: "{}" } : { type: "text_delta", text: "done" };
  const message = { id: `msg_${turns.length}`, type: "message", role: "assistant", model, content: [], stop_reason: null, stop_sequence: null, usage: start };
  return [
    { type: "message_start", message },
    ...blocks.flatMap((content_block, index) => [
      { type: "content_block_start", index, content_block },
      { type: "content_block_delta", index, delta },
      { type: "content_block_stop", index },
    ]),
    { type: "message_delta", delta: { stop_reason: first ? "tool_use" : "end_turn", stop_sequence: null }, usage: end },
    { type: "message_stop" },
  ];
}

/** Serves Anthropic's Messages API while `use` runs. */
async function standIn(given, use) {
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    if (request.method !== "POST") return response.writeHead(404).end();
    const events = answer(given, JSON.parse(Buffer.concat(chunks)).messages);
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(""));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await use(`http://127.0.0.1:${server.address().port}`);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

async function run(given) {
  const directory = mkdtempSync(join(tmpdir(), "pikarc-claude-"));
  const content = (text) => ({ content: [{ type: "text", text }] });
  const tools = Object.entries(given.tools).map(([name, execute]) => tool(name, name, {}, async () => content(await execute())));
  const abortController = new AbortController();
  given.signal?.addEventListener("abort", () => abortController.abort());
  try {
    await standIn(given, async (url) => {
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
