// An agent of LangChain under Pikarc's guard, without a model key: a list of messages stands in for the model.
//
//   npm install http://localhost:8000/clients/pikarc.tgz langchain @langchain/core zod
//   PIKARC_API_KEY=lg_... node examples/with_langchain.ts       (Node 22.18 or later)
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, ToolMessage } from "@langchain/core/messages";
import { createAgent, tool } from "langchain";
import { Pikarc } from "pikarc";
import { pikarcMiddleware } from "pikarc/langchain";
import { z } from "zod";

const guard = new Pikarc();
const refund = tool(async ({ order }: { order: number }) => `order ${order} is refunded`, {
  name: "refund",
  description: "Refunds an order.",
  schema: z.object({ order: z.number() }),
});

// In your own agent: createAgent({ model: "openai:gpt-4o", … }).
const usage_metadata = { input_tokens: 500, output_tokens: 100, total_tokens: 600 };
const messages = [
  new AIMessage({ content: "", tool_calls: [{ name: "refund", args: { order: 3 }, id: "call-1", type: "tool_call" }], usage_metadata }),
  new AIMessage({ content: "Order 3 is refunded.", usage_metadata }),
];
class Pretended extends BaseChatModel {
  model = "pretended-model";
  _llmType(): string {
    return "pretended";
  }
  override bindTools() {
    return this;
  }
  async _generate() {
    const message = messages.shift() ?? new AIMessage("");
    return { generations: [{ text: "", message }] };
  }
}

await guard.run({ userId: "ada" }, async (run) => {
  const agent = createAgent({ model: new Pretended({}), tools: [refund], middleware: [pikarcMiddleware(guard, { ToolMessage })] });
  const result = await agent.invoke({ messages: [{ role: "user", content: "Refund order 3." }] });
  console.log(result.messages.at(-1)?.content, "Run", run.runId);
});
