// An agent of OpenAI's Agents SDK for JavaScript under Pikarc's guard, without a model key: an object stands in for the model.
//
//     npm install @openai/agents zod http://localhost:8000/clients/pikarc.tgz
//     PIKARC_API_KEY=lg_... node with_openai_agents.mjs
import { Agent, Runner, tool, Usage } from "@openai/agents";
import { Pikarc } from "pikarc";
import { pikarcAgent, pikarcProvider } from "pikarc/openai-agents";
import { z } from "zod";

const refund = tool({
  name: "refund",
  description: "Refunds an order.",
  parameters: z.object({ order: z.number() }),
  execute: async ({ order }) => `order ${order} is refunded`,
});

// In your own agent: new OpenAIProvider().
const pretended = {
  getResponse: async ({ input }) => ({
    usage: new Usage({ requests: 1, inputTokens: 500, outputTokens: 100, totalTokens: 600 }),
    output: JSON.stringify(input).includes("function_call_result")
      ? [{ type: "message", role: "assistant", status: "completed", content: [{ type: "output_text", text: "Order 3 is refunded." }] }]
      : [{ type: "function_call", callId: "call-1", name: "refund", arguments: '{"order":3}', status: "completed" }],
  }),
};

const guard = new Pikarc();
const agent = pikarcAgent(guard, new Agent({ name: "support", model: "pretended-model", tools: [refund] }));
const runner = new Runner({ modelProvider: pikarcProvider(guard, { getModel: () => pretended }), tracingDisabled: true });
await guard.run({ userId: "ada" }, async (run) => {
  const result = await runner.run(agent, "Refund order 3.");
  console.log(result.finalOutput, "Run", run.runId);
});
