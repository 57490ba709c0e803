// An agent of Vercel's AI SDK under Pikarc's guard, without a model key: a list of answers stands in for the model.
//
//   npm install http://localhost:8000/clients/pikarc.tgz ai
//   PIKARC_API_KEY=lg_... node examples/with_ai_sdk.ts       (Node 22.18 or later)
import { generateText, isStepCount, jsonSchema, tool, wrapLanguageModel } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { Pikarc } from "pikarc";
import { pikarcMiddleware, pikarcTools } from "pikarc/ai-sdk";

const guard = new Pikarc();
const refund = tool({
  description: "Refunds an order.",
  inputSchema: jsonSchema<{ order: number }>({ type: "object", properties: { order: { type: "number" } } }),
  execute: async ({ order }) => `order ${order} is refunded`,
});

// In your own agent: openai("gpt-4o").
const usage = {
  inputTokens: { total: 500, noCache: 500, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 100, text: 100, reasoning: 0 },
};
let turn = 0;
const pretended = new MockLanguageModelV4({
  modelId: "pretended-model",
  doGenerate: async () =>
    turn++ === 0
      ? {
          content: [{ type: "tool-call", toolCallId: "call-1", toolName: "refund", input: '{"order": 3}' }],
          finishReason: { unified: "tool-calls", raw: undefined },
          usage,
          warnings: [],
        }
      : {
          content: [{ type: "text", text: "Order 3 is refunded." }],
          finishReason: { unified: "stop", raw: undefined },
          usage,
          warnings: [],
        },
});

await guard.run({ userId: "ada" }, async (run) => {
  const { text } = await generateText({
    model: wrapLanguageModel({ model: pretended, middleware: pikarcMiddleware(guard) }),
    tools: pikarcTools(guard, { refund }),
    stopWhen: isStepCount(5),
    prompt: "Refund order 3.",
  });
  console.log(text, "Run", run.runId);
});
