// One small agent for each framework: its fake model calls the tools once, and then says "done". `turns` collects what it was told.
import { readFileSync } from "node:fs";
import { Agent, Runner, tool as agentTool, Usage } from "@openai/agents";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { generateText, isStepCount, jsonSchema, streamText, tool as aiTool, wrapLanguageModel } from "ai";
import { MockLanguageModelV4, convertArrayToReadableStream } from "ai/test";
import { createAgent, tool as langTool } from "langchain";
import { AIMessage, ToolMessage } from "@langchain/core/messages";
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { z } from "zod";
import * as aiSdk from "../../typescript/dist/adapters/ai-sdk.js";
import * as langchain from "../../typescript/dist/adapters/langchain.js";
import * as openaiAgents from "../../typescript/dist/adapters/openai-agents.js";

const { dependencies } = JSON.parse(readFileSync(new URL("package.json", import.meta.url)));
export const model = "conformance-model";
/** Of each call: 10 in, 4 of them cached; 5 out, 2 of them reasoning. */
export const perCall = 15;

/** What a fake model does at its nth call. */
const isFirst = (turns, messages) => turns.push(JSON.stringify(messages)) === 1;

function aiModel({ tools, turns }) {
  const usage = { inputTokens: { total: 10, noCache: 6, cacheRead: 4 }, outputTokens: { total: 5, text: 3, reasoning: 2 } };
  const content = (prompt) =>
    isFirst(turns, prompt)
      ? Object.keys(tools).map((toolName, i) => ({ type: "tool-call", toolCallId: `call${i}`, toolName, input: "{}" }))
      : [{ type: "text", text: "done" }];
  const end = (made) => ({ unified: made[0].type === "text" ? "stop" : "tool-calls" });
  return new MockLanguageModelV4({
    modelId: model,
    doGenerate: async ({ prompt }) => {
      const made = content(prompt);
      return { content: made, finishReason: end(made), usage, warnings: [] };
    },
    doStream: async ({ prompt }) => {
      const made = content(prompt);
      const parts = made.flatMap((c) => (c.type === "text" ? [{ type: "text-start", id: "t" }, { type: "text-delta", id: "t", delta: c.text }, { type: "text-end", id: "t" }] : [c]));
      return { stream: convertArrayToReadableStream([{ type: "stream-start", warnings: [] }, ...parts, { type: "finish", finishReason: end(made), usage }]) };
    },
  });
}

const ai = (name, ask) => ({
  name, version: dependencies.ai,
  run: async (given) => {
    const wrapped = wrapLanguageModel({ model: aiModel(given), middleware: aiSdk.pikarcMiddleware(given.guard) });
    const tools = Object.fromEntries(
      Object.entries(given.tools).map(([name, execute]) => [name, aiTool({ inputSchema: jsonSchema({ type: "object" }), execute })]),
    );
    await ask({ model: wrapped, tools: aiSdk.pikarcTools(given.guard, tools), stopWhen: isStepCount(5), prompt: "go", abortSignal: given.signal });
  },
}); // prettier-ignore

const agents = (name, start) => ({
  name, version: dependencies["@openai/agents"],
  run: async (given) => {
    const response = (input) => ({
      usage: new Usage({ requests: 1, inputTokens: 10, outputTokens: 5, totalTokens: 15, inputTokensDetails: { cached_tokens: 4 }, outputTokensDetails: { reasoning_tokens: 2 } }),
      output: isFirst(given.turns, input)
        ? Object.keys(given.tools).map((name, i) => ({ type: "function_call", callId: `call${i}`, name, arguments: "{}", status: "completed" }))
        : [{ type: "message", role: "assistant", status: "completed", content: [{ type: "output_text", text: "done" }] }],
    });
    const fake = {
      getResponse: async ({ input }) => response(input),
      async *getStreamedResponse({ input }) {
        const { usage, output } = response(input);
        yield { type: "response_started" };
        yield { type: "response_done", response: { id: "r", output, usage: { inputTokens: 10, outputTokens: 5, totalTokens: 15, inputTokensDetails: usage.inputTokensDetails[0], outputTokensDetails: usage.outputTokensDetails[0] } } };
      },
    };
    const tools = Object.entries(given.tools).map(([name, execute]) =>
      agentTool({ name, description: name, parameters: z.object({}), errorFunction: null, execute }));
    const agent = openaiAgents.pikarcAgent(given.guard, new Agent({ name: "agent", model, tools }));
    const runner = new Runner({ modelProvider: openaiAgents.pikarcProvider(given.guard, { getModel: () => fake }), tracingDisabled: true });
    await start(runner, agent, given.signal);
  },
}); // prettier-ignore

class FakeChat extends BaseChatModel {
  model = model;
  constructor(given) {
    super({ maxRetries: 0 });
    this.given = given;
  }
  _llmType() {
    return "fake";
  }
  bindTools() {
    return this;
  }
  async _generate(messages) {
    const tool_calls = isFirst(this.given.turns, messages)
      ? Object.keys(this.given.tools).map((name, i) => ({ name, args: {}, id: `call${i}`, type: "tool_call" }))
      : [];
    const usage_metadata = { input_tokens: 10, output_tokens: 5, total_tokens: 15, input_token_details: { cache_read: 4 }, output_token_details: { reasoning: 2 } };
    const message = new AIMessage({ content: tool_calls.length ? "" : "done", tool_calls, usage_metadata });
    return { generations: [{ text: "", message }] };
  }
}

const lang = {
  name: "LangChain JS", version: dependencies.langchain,
  run: async (given) => {
    const tools = Object.entries(given.tools).map(([name, execute]) => langTool(execute, { name, description: name, schema: z.object({}) }));
    const agent = createAgent({ model: new FakeChat(given), tools, middleware: [langchain.pikarcMiddleware(given.guard, { ToolMessage })] });
    await agent.invoke({ messages: [{ role: "user", content: "go" }] }, { signal: given.signal });
  },
}; // prettier-ignore

/** A client of a model alone: the loop around it is the program's own, which guards its tools by guard.tool. */
const plain = (name, version, ask) => ({
  name, version, tellsTheModel: "the program calls its tools itself, and catches PikarcBlockedError",
  run: async (given) => {
    const fetch = async (_, init) => {
      const first = isFirst(given.turns, JSON.parse(init.body).messages ?? JSON.parse(init.body).input);
      return Response.json(ask.answer(first ? Object.keys(given.tools) : []));
    };
    const client = given.guard.wrap(ask.client(fetch));
    const messages = [{ role: "user", content: "go" }];
    for (;;) {
      const names = ask.called(await ask.create(client, messages, { signal: given.signal }));
      if (names.length === 0) return;
      const results = await Promise.all(names.map((name) => given.guard.tool(name, given.tools[name])({})));
      messages.push({ role: "user", content: JSON.stringify(results) });
    }
  },
}); // prettier-ignore

const chat = {
  client: (fetch) => new OpenAI({ apiKey: "k", maxRetries: 0, fetch }),
  create: (client, messages, options) => client.chat.completions.create({ model, messages }, options),
  answer: (names) => ({
    model,
    choices: [{ message: { role: "assistant", tool_calls: names.map((name) => ({ type: "function", id: name, function: { name, arguments: "{}" } })) } }],
    usage: { prompt_tokens: 10, completion_tokens: 5, prompt_tokens_details: { cached_tokens: 4 }, completion_tokens_details: { reasoning_tokens: 2 } },
  }),
  called: (answer) => answer.choices[0].message.tool_calls.map((call) => call.function.name),
};
const responses = {
  client: chat.client,
  create: (client, input, options) => client.responses.create({ model, input }, options),
  answer: (names) => ({
    model, object: "response", output: names.map((name) => ({ type: "function_call", name, call_id: name, arguments: "{}" })),
    usage: { input_tokens: 10, output_tokens: 5, input_tokens_details: { cached_tokens: 4 }, output_tokens_details: { reasoning_tokens: 2 } },
  }),
  called: (answer) => answer.output.map((call) => call.name),
}; // prettier-ignore
const claude = {
  client: (fetch) => new Anthropic({ apiKey: "k", maxRetries: 0, fetch }),
  create: (client, messages, options) => client.messages.create({ model, max_tokens: 9, messages }, options),
  answer: (names) => ({
    model, type: "message", role: "assistant", content: names.map((name) => ({ type: "tool_use", id: name, name, input: {} })),
    usage: { input_tokens: 6, cache_read_input_tokens: 4, output_tokens: 5, output_tokens_details: { thinking_tokens: 2 } },
  }),
  called: (answer) => answer.content.map((call) => call.name),
}; // prettier-ignore

export const examples = ["with_ai_sdk.mjs", "with_langchain.mjs", "with_openai_agents.mjs"];
export const frameworks = [
  ai("Vercel AI SDK, generateText", (options) => generateText({ ...options, maxRetries: 0 })),
  ai("Vercel AI SDK, streamText", async (options) => {
    let failure;
    const result = streamText({ ...options, maxRetries: 0, onError: ({ error }) => void (failure ??= error) });
    await result.consumeStream({ onError: () => undefined });
    if (failure) throw failure;
  }),
  agents("OpenAI Agents SDK JS", (runner, agent, signal) => runner.run(agent, "go", { signal })),
  agents("OpenAI Agents SDK JS, stream", async (runner, agent, signal) => {
    const result = await runner.run(agent, "go", { stream: true, signal });
    for await (const event of result) void event;
    await result.completed;
  }),
  lang,
  plain("openai JS, chat completions", dependencies.openai, chat),
  plain("openai JS, responses", dependencies.openai, responses),
  plain("@anthropic-ai/sdk, messages", dependencies["@anthropic-ai/sdk"], claude),
];
