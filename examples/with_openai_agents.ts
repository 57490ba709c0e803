// An agent of OpenAI's Agents SDK under Pikarc's guard, without a model key: a list of answers stands in for the model.
//
//   npm install http://localhost:8000/clients/pikarc.tgz @openai/agents zod
//   PIKARC_API_KEY=lg_... node examples/with_openai_agents.ts       (Node 22.18 or later)
import { Agent, Runner, tool, Usage, type Model, type ModelResponse } from "@openai/agents";
import { Pikarc } from "pikarc";
import { pikarcAgent, pikarcProvider } from "pikarc/openai-agents";
import { z } from "zod";

const guard = new Pikarc();
const refund = tool({
  name: "refund",
  description: "Refunds an order.",
  parameters: z.object({ order: z.number() }),
  execute: async ({ order }) => `order ${order} is refunded`,
});
const agent = new Agent({ name: "support", model: "pretended-model", tools: [refund] });

// In your own agent: new OpenAIProvider().
const answers: ModelResponse["output"][] = [
  [{ type: "function_call", callId: "call-1", name: "refund", arguments: '{"order": 3}', status: "completed" }],
  [{ type: "message", role: "assistant", status: "completed", content: [{ type: "output_text", text: "Order 3 is refunded." }] }],
];
const pretended: Model = {
  getResponse: async () => ({
    usage: new Usage({ requests: 1, inputTokens: 500, outputTokens: 100, totalTokens: 600 }),
    output: answers.shift() ?? [],
  }),
  getStreamedResponse: () => {
    throw new Error("it is not streamed here");
  },
};

const runner = new Runner({ modelProvider: pikarcProvider(guard, { getModel: () => pretended }), tracingDisabled: true });
await guard.run({ userId: "ada" }, async (run) => {
  const result = await runner.run(pikarcAgent(guard, agent), "Refund order 3.");
  console.log(result.finalOutput, "Run", run.runId);
});
