/** For OpenAI's Agents SDK (package `@openai/agents`): a wrapper for its model providers, and one for agents' tools. */
import type { Pikarc } from "../client.js";
import { callTool, type AdapterOptions } from "./tools.js";

interface Model {
  getResponse(request: never): Promise<unknown>;
  getStreamedResponse(request: never): AsyncIterable<unknown>;
}
interface Provider {
  getModel(name?: string): Promise<Model> | Model;
}
interface Tool {
  type: string;
  name: string;
  invoke?: (context: unknown, input: string, details?: unknown) => Promise<unknown>;
}
interface Agent {
  name: string;
  model: unknown;
  handoffs: unknown[];
  clone(changes: object): unknown;
  getAllTools(...args: never[]): Promise<unknown[]>;
}

/** Guards all models of a provider: `new Runner({ modelProvider: pikarcProvider(guard, new OpenAIProvider()) })`. */
export function pikarcProvider<P extends Provider>(guard: Pikarc, provider: P): P {
  const getModel = async (name?: string) => pikarcModel(guard, (await provider.getModel(name)) as Model, name ?? "default");
  return instead(provider, { getModel });
}

/** Guards one model, which is priced by `name`. */
export function pikarcModel<M extends Model>(guard: Pikarc, model: M, name: string): M {
  const options = (request: unknown) => ({ model: name, inputData: { input: (request as { input?: unknown }).input } });
  const getResponse = (request: never) => guard.current().modelCall(() => model.getResponse(request), options(request));
  async function* getStreamedResponse(request: never) {
    yield* await guard.current().modelStream(() => model.getStreamedResponse(request), options(request));
  }
  return instead(model, { getResponse, getStreamedResponse });
}

/**
 * Guards the tools of an agent, also those of its MCP servers and of the agents that it hands off to or has as tools. The agent given
 * is left as it is. Tools that OpenAI runs are part of the model's call; others that are no functions cannot be guarded
 * (computer, shell, patches), and are refused.
 */
export function pikarcAgent<A extends Agent>(guard: Pikarc, agent: A, options: AdapterOptions = {}, made = new Map<unknown, unknown>()): A {
  const known = made.get(agent);
  if (known) return known as A;
  const guarded = agent.clone({}) as A;
  made.set(agent, guarded); // agents may hand off to each other
  const { getAllTools } = agent;
  guarded.getAllTools = async (...args: never[]) =>
    ((await getAllTools.apply(guarded, args)) as Tool[]).map((tool) => pikarcTool(guard, tool, options));
  guarded.handoffs = agent.handoffs.map((to) => (isAgent(to) ? pikarcAgent(guard, to, options, made) : handoff(guard, to, options, made)));
  return guarded;
}

/** A handoff made by `handoff(agent)` calls a function that returns the agent. */
function handoff(guard: Pikarc, to: unknown, options: AdapterOptions, made: Map<unknown, unknown>): unknown {
  const { onInvokeHandoff } = to as { onInvokeHandoff?: (...args: unknown[]) => Promise<Agent> };
  if (typeof onInvokeHandoff !== "function") throw new TypeError("a handoff is of a kind that pikarcAgent does not know");
  return instead(to as object, {
    onInvokeHandoff: async (...args: unknown[]) => pikarcAgent(guard, await onInvokeHandoff.apply(to, args), options, made),
  });
}

function pikarcTool(guard: Pikarc, tool: Tool, options: AdapterOptions): Tool {
  if (tool.type === "hosted_tool") return tool;
  const { invoke } = tool;
  if (tool.type !== "function" || typeof invoke !== "function") {
    throw new TypeError(`the tool ${tool.name} is no function (${tool.type}): pikarcAgent cannot guard it`);
  }
  const call = (context: unknown, input: string, details?: unknown) =>
    callTool<unknown>(guard, tool.name, parsed(input), () => invoke.call(tool, context, input, details), (sentence) => sentence, options);
  return instead(tool, { invoke: call });
}

function isAgent(value: unknown): value is Agent {
  return typeof (value as Agent | undefined)?.getAllTools === "function";
}

/** The object with other methods. Its own may need it as their `this`, for private members. */
function instead<T extends object>(object: T, methods: object): T {
  return new Proxy(object, {
    get(target, name) {
      if (Object.hasOwn(methods, name)) return (methods as Record<PropertyKey, unknown>)[name];
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

function parsed(input: string): unknown {
  try {
    return JSON.parse(input);
  } catch {
    return input;
  }
}
