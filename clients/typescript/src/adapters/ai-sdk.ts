/** For Vercel's AI SDK (package `ai`): middleware for models, and a wrapper for tools. */
import type { Pikarc } from "../client.js";
import { callTool, type AdapterOptions } from "./tools.js";

interface Named {
  modelId: string;
}

/** Guards a model: `wrapLanguageModel({ model, middleware: pikarcMiddleware(guard) })`. */
export function pikarcMiddleware(guard: Pikarc) {
  return {
    specificationVersion: "v4" as const,
    wrapGenerate: <R>({ doGenerate, model, params }: { doGenerate: () => PromiseLike<R>; model: Named; params: { prompt: unknown } }) =>
      guard.current().modelCall(async () => doGenerate(), { model: model.modelId, inputData: { prompt: params.prompt } }),
    wrapStream: async <R extends { stream: ReadableStream }>(
      { doStream, model, params }: { doStream: () => PromiseLike<R>; model: Named; params: { prompt: unknown } },
    ): Promise<R> => {
      let result: R | undefined;
      const parts = await guard.current().modelStream(async () => chunks((result = await doStream()).stream), {
        model: model.modelId,
        inputData: { prompt: params.prompt },
      });
      return { ...(result as R), stream: streamOf(parts) };
    },
  };
}

/** Guards tools: `tools: pikarcTools(guard, { search, refund })`. Those that the provider runs have no `execute`, and stay as they are. */
export function pikarcTools<T extends Record<string, unknown>>(guard: Pikarc, tools: T, options: AdapterOptions = {}): T {
  const guarded = Object.entries(tools).map(([name, tool]) => {
    const { execute } = tool as { execute?: (...args: unknown[]) => unknown };
    if (typeof execute !== "function") return [name, tool];
    const call = (input: unknown, ...more: unknown[]) =>
      callTool<unknown>(guard, name, input, () => last(execute.call(tool, input, ...more)), (sentence) => sentence, options);
    return [name, { ...(tool as object), execute: call }];
  });
  return Object.fromEntries(guarded) as T;
}

/** A tool may yield what it has so far; its result is what it yields last. */
async function last(result: unknown): Promise<unknown> {
  if (typeof (result as AsyncIterable<unknown> | undefined)?.[Symbol.asyncIterator] !== "function") return result;
  let value: unknown;
  for await (value of result as AsyncIterable<unknown>);
  return value;
}

/** Reads a stream's chunks, and cancels it when they are left. (Not every runtime's streams are iterable.) */
async function* chunks<T>(stream: ReadableStream<T>): AsyncGenerator<T> {
  const reader = stream.getReader();
  let whole = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      yield value;
    }
    whole = true;
  } finally {
    if (!whole) await reader.cancel().catch(() => undefined);
  }
}

function streamOf<T>(parts: AsyncGenerator<T>): ReadableStream<T> {
  return new ReadableStream<T>({
    async pull(controller) {
      const next = await parts.next();
      if (next.done) controller.close();
      else controller.enqueue(next.value);
    },
    async cancel() {
      await parts.return(undefined);
    },
  });
}
