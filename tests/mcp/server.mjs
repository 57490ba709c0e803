// An MCP server of the reference SDK for TypeScript, over stdio or streamable HTTP (it prints its address).
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { EmptyResultSchema } from "@modelcontextprotocol/sdk/types.js";
import { z } from "zod";

const text = (value) => ({ content: [{ type: "text", text: value }] });
let calls = 0;

function make() {
  const server = new McpServer({ name: "reference", version: "1.0.0" });
  const progress = (extra, progress, total) =>
    extra.sendNotification({
      method: "notifications/progress",
      params: { progressToken: extra._meta?.progressToken, progress, total },
    });
  server.registerTool("count", {}, () => text(`call ${++calls}`));
  server.registerTool("fail", {}, () => {
    throw new Error("it does not work");
  });
  server.registerTool("steps", { inputSchema: { n: z.number() } }, async ({ n }, extra) => {
    for (let i = 0; i < n; i++) await progress(extra, i + 1, n);
    await extra.sendRequest({ method: "ping" }, EmptyResultSchema); // a server asks its client, too
    return text("done");
  });
  server.registerTool("slow", {}, async (extra) => {
    await progress(extra, 1, 2);
    await new Promise((resolve) => extra.signal.addEventListener("abort", resolve));
    return text("never");
  });
  server.registerTool("big", { inputSchema: { size: z.number() } }, ({ size }) => text("xä".repeat(size / 2)));
  server.registerTool("crash", {}, () => process.exit(3));
  server.registerTool("environment", {}, () =>
    text(Object.keys(process.env).filter((name) => name.startsWith("PIKARC_")).sort().join(" ")),
  );
  server.registerResource("note", "note://today", {}, (uri) => ({ contents: [{ uri: uri.href, text: "a note" }] }));
  server.registerPrompt("greet", { argsSchema: { name: z.string() } }, ({ name }) => ({
    messages: [{ role: "user", content: { type: "text", text: `Greet ${name}` } }],
  }));
  return server;
}

if (process.argv[2] === "stdio") {
  await make().connect(new StdioServerTransport());
} else {
  const sessions = new Map();
  const http = createServer(async (request, response) => {
    let transport = sessions.get(request.headers["mcp-session-id"]);
    if (!transport) {
      transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: (id) => sessions.set(id, transport),
      });
      await make().connect(transport);
    }
    await transport.handleRequest(request, response);
  });
  http.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${http.address().port}/mcp`));
}
