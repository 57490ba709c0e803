// An agent of Vercel's AI SDK under Pikarc's guard, without a model key: the SDK's mock stands in for the model.
//
//     npm install ai http://localhost:8000/clients/pikarc.tgz
//     PIKARC_API_KEY=lg_... node with_ai_sdk.mjs
import { generateText, isStepCount, jsonSchema, tool, wrapLanguageModel } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { Pikarc } from "pikarc";
import { pikarcMiddleware, pikarcTools } from "pikarc/ai-sdk";

const refund = tool({
  description: "Refunds an order.",
  inputSchema: jsonSchema({ type: "object", properties: { order: { type: "number" } }, required: ["order"] }),
  execute: async ({ order }) => `order ${order} is refunded`,
});

// In your own agent: openai("gpt-4o").
const usage = { inputTokens: { total: 500 }, outputTokens: { total: 100 } };
const pretended = new MockLanguageModelV4({
  modelId: "pretended-model",
  doGenerate: async ({ prompt }) =>
    prompt.some((message) => message.role === "tool")
      ? { content: [{ type: "text", text: "Order 3 is refunded." }], finishReason: { unified: "stop" }, usage, warnings: [] }
      : {
          content: [{ type: "tool-call", toolCallId: "call-1", toolName: "refund", input: '{"order":3}' }],
          finishReason: { unified: "tool-calls" },
          usage,
          warnings: [],
        },
});

const guard = new Pikarc();
const model = wrapLanguageModel({ model: pretended, middleware: pikarcMiddleware(guard) });
await guard.run({ userId: "ada" }, async (run) => {
  const { text } = await generateText({ model, tools: pikarcTools(guard, { refund }), stopWhen: isStepCount(5), prompt: "Refund order 3." });
  console.log(text, "Run", run.runId);
});
