// A client of the reference SDK for TypeScript: does what it is told, a line each, and writes what came of it.
//
//   client.mjs http URL | client.mjs stdio COMMAND...
import { createInterface } from "node:readline";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [kind, ...target] = process.argv.slice(2);
const client = new Client({ name: "reference", version: "1.0.0" });
const transport =
  kind === "http"
    ? new StreamableHTTPClientTransport(new URL(target[0]))
    : new StdioClientTransport({ command: target[0], args: target.slice(1), env: process.env });
await client.connect(transport);
// Its own callback forgets who reports once it has the result: what comes is looked at before that.
const reports = [];
const taken = transport.onmessage;
transport.onmessage = (message, extra) => {
  if (message.method === "notifications/progress") reports.push(message.params.progress);
  taken(message, extra);
};

function shown(result) {
  const text = result.content.map((part) => part.text).join("");
  return { text: text.length < 2000 ? text : text.length, is_error: Boolean(result.isError) };
}

async function cancelled() {
  const off = new AbortController();
  const options = { signal: off.signal, onprogress: () => off.abort() };
  await client.callTool({ name: "slow", arguments: {} }, undefined, options).catch(() => {});
  return { cancelled: true };
}

async function act(ask) {
  switch (ask.op) {
    case "tools":
      return { tools: (await client.listTools()).tools.map((tool) => tool.name).sort() };
    case "call":
      return shown(await client.callTool({ name: ask.name, arguments: ask.args ?? {} }, undefined, { timeout: 10_000 }));
    case "progress": {
      reports.length = 0;
      const result = await client.callTool({ name: "steps", arguments: { n: 3 } }, undefined, { onprogress: () => {} });
      return { ...shown(result), progress: [...reports] };
    }
    case "cancel":
      return cancelled();
    case "read":
      return { text: (await client.readResource({ uri: "note://today" })).contents[0].text };
    case "prompt":
      return { text: (await client.getPrompt({ name: "greet", arguments: { name: "Ada" } })).messages[0].content.text };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const done = await act(JSON.parse(line)).catch((error) => ({ error: error.message, code: error.code }));
  console.log(JSON.stringify(done));
}
await transport.terminateSession?.().catch(() => {});
await client.close();
