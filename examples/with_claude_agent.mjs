// An agent of the Claude Agent SDK under Pikarc's guard, without a model key: a server in this file stands in for Anthropic's.
//
//     npm install @anthropic-ai/claude-agent-sdk zod http://localhost:8000/clients/pikarc.tgz
//     PIKARC_API_KEY=lg_... node with_claude_agent.mjs
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createSdkMcpServer, query, tool } from "@anthropic-ai/claude-agent-sdk";
import { Pikarc } from "pikarc";
import { pikarcQuery } from "pikarc/claude-agent";
import { z } from "zod";

const refund = tool("refund", "Refunds an order.", { order: z.number() }, async ({ order }) => ({
  content: [{ type: "text", text: `order ${order} is refunded` }],
}));

const pretended = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  if (request.method !== "POST") return response.writeHead(404).end();
  const refunded = Buffer.concat(chunks).includes("tool_result");
  const [content_block, delta, stop_reason] = refunded
    ? [{ type: "text", text: "" }, { type: "text_delta", text: "Order 3 is refunded." }, "end_turn"]
    : [{ type: "tool_use", id: "toolu_1", name: "mcp__shop__refund", input: {} }, { type: "input_json_delta", partial_json: '{"order":3}' }, "tool_use"];
  const message = { id: "msg_1", type: "message", role: "assistant", model: "pretended-model", content: [], usage: { input_tokens: 500, output_tokens: 1 } };
  const events = [
    { type: "message_start", message },
    { type: "content_block_start", index: 0, content_block },
    { type: "content_block_delta", index: 0, delta },
    { type: "content_block_stop", index: 0 },
    { type: "message_delta", delta: { stop_reason }, usage: { output_tokens: 100 } },
    { type: "message_stop" },
  ];
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(""));
});
await new Promise((resolve) => pretended.listen(0, "127.0.0.1", resolve));

const directory = mkdtempSync(join(tmpdir(), "claude-"));
const options = {
  model: "pretended-model",
  tools: [],
  mcpServers: { shop: createSdkMcpServer({ name: "shop", version: "1.0.0", tools: [refund] }) },
  allowedTools: ["mcp__shop__refund"],
  settingSources: [],
  // In your own agent: neither of the two below, but your key.
  cwd: directory,
  env: {
    PATH: process.env.PATH, HOME: directory, CLAUDE_CONFIG_DIR: directory, ANTHROPIC_API_KEY: "none", IS_SANDBOX: "1",
    ANTHROPIC_BASE_URL: `http://127.0.0.1:${pretended.address().port}`, CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
  },
};

const guard = new Pikarc();
await guard.run({ userId: "ada" }, async (run) => {
  for await (const message of pikarcQuery(guard, query, { prompt: "Refund order 3.", options })) {
    if (message.type === "result") console.log(message.result, "Run", run.runId);
  }
});
pretended.close();
pretended.closeAllConnections();
rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
