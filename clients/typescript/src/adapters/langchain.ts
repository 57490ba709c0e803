/** For LangChain 1.x (package `langchain`): middleware, which also covers parallel tools and agents that are tools. */
import type { Pikarc } from "../client.js";
import { callTool, type AdapterOptions } from "./tools.js";

interface ToolRequest {
  toolCall: { name: string; args: unknown; id?: string };
}

/** ToolMessage of `langchain`, of which this package knows no version. */
interface LangChainOptions extends AdapterOptions {
  ToolMessage: new (fields: { content: string; name: string; tool_call_id: string; status: "error" }) => unknown;
}

/** Guards an agent: `createAgent({ model, tools, middleware: [pikarcMiddleware(guard, { ToolMessage })] })`. Put it last, next to the calls themselves. */
export function pikarcMiddleware(guard: Pikarc, options: LangChainOptions) {
  return {
    name: "Pikarc",
    // LangChain's own types differ from agent to agent; what is passed on is what came.
    wrapModelCall: (request: any, handler: (request: any) => any): Promise<any> =>
      guard.current().modelCall(() => handler(request), {
        model: modelName(request.model),
        inputData: { messages: request.messages },
        usage: (answer: any) => answer?.usage_metadata,
      }),
    wrapToolCall: (request: any, handler: (request: any) => any): Promise<any> => {
      const { toolCall } = request as ToolRequest;
      const { name, id = "" } = toolCall;
      const tell = (content: string) => new options.ToolMessage({ content, name, tool_call_id: id, status: "error" });
      return callTool<unknown>(guard, name, toolCall.args, () => handler(request), tell, options);
    },
  };
}

/** Chat models have their name in one of these. */
function modelName(model: { model?: unknown; modelName?: unknown; _llmType?: () => string } | undefined): string {
  for (const name of [model?.model, model?.modelName]) if (typeof name === "string" && name) return name;
  return model?._llmType?.() ?? "unknown";
}
