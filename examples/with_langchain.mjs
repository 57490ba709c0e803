// An agent of LangChain for JavaScript under Pikarc's guard, without a model key: a class stands in for the model.
//
//     npm install langchain @langchain/core zod http://localhost:8000/clients/pikarc.tgz
//     PIKARC_API_KEY=lg_... node with_langchain.mjs
import { BaseChatModel } from "@langchain/core/language_models/chat_models";
import { AIMessage, ToolMessage } from "@langchain/core/messages";
import { createAgent, tool } from "langchain";
import { Pikarc } from "pikarc";
import { pikarcMiddleware } from "pikarc/langchain";
import { z } from "zod";

const refund = tool(async ({ order }) => `order ${order} is refunded`, {
  name: "refund",
  description: "Refunds an order.",
  schema: z.object({ order: z.number() }),
});

// In your own agent: model: "openai:gpt-4o".
class PretendedModel extends BaseChatModel {
  model = "pretended-model";
  _llmType() {
    return "pretended";
  }
  bindTools() {
    return this;
  }
  async _generate(messages) {
    const usage_metadata = { input_tokens: 500, output_tokens: 100, total_tokens: 600 };
    const done = messages.some((message) => message.getType() === "tool");
    const tool_calls = done ? [] : [{ name: "refund", args: { order: 3 }, id: "call-1", type: "tool_call" }];
    return { generations: [{ text: "", message: new AIMessage({ content: done ? "Order 3 is refunded." : "", tool_calls, usage_metadata }) }] };
  }
}

const guard = new Pikarc();
const agent = createAgent({ model: new PretendedModel({}), tools: [refund], middleware: [pikarcMiddleware(guard, { ToolMessage })] });
await guard.run({ userId: "ada" }, async (run) => {
  const result = await agent.invoke({ messages: [{ role: "user", content: "Refund order 3." }] });
  console.log(result.messages.at(-1).content, "Run", run.runId);
});
