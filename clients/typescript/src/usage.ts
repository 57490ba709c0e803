import type { UpdateStepRequest } from "./wire.js";

/** Of what a call returned, the tokens of the prompt and of the completion. */
export type TokenExtractor<T> = (result: T) => [prompt: number, completion: number];

/** Of what a call returned, or of a chunk, the provider's usage object. */
export type UsageFinder<T> = (result: T) => unknown;

type Members = Record<string, unknown>;

const keys = [
  "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "inputTokens", "outputTokens", "billed_units",
  "promptTokenCount", "candidatesTokenCount", "prompt_token_count", "candidates_token_count", "promptTokens", "completionTokens",
]; // prettier-ignore
const places = ["usage", "totalUsage", "usage_metadata", "usageMetadata", "response_metadata"];
const inside = ["response", "message", "metadata", "delta", "providerMetadata"];

function members(value: unknown): Members | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Members) : undefined;
}

/** Returns the usage object of an answer or of a stream's event: what a provider says that a call used. */
export function find(result: unknown, depth = 0): Members | undefined {
  const object = members(result);
  if (!object || depth > 2) return undefined;
  if (keys.some((key) => object[key] !== undefined && object[key] !== null)) return object;
  for (const place of places) {
    const usage = members(object[place]);
    if (usage && keys.some((key) => usage[key] !== undefined && usage[key] !== null)) return usage;
  }
  for (const name of inside) {
    const found = find(object[name], depth + 1);
    if (found) return found;
  }
  return undefined;
}

/** Returns the model that an answer, or an event of a stream, says it is of. */
export function modelOf(result: unknown): string | undefined {
  const answer = members(result);
  for (const place of [answer, members(answer?.["message"]), members(answer?.["response"])]) {
    const model = place?.["model"] ?? place?.["modelVersion"];
    if (typeof model === "string" && model) return model;
  }
  return undefined;
}

/** Returns the fields of a report that say what a call used. Never throws: the call has been paid. */
export function report<T>(result: unknown, extractor: TokenExtractor<T> | undefined, whole = result): UpdateStepRequest {
  const fields: UpdateStepRequest = {};
  try {
    const usage = normal(find(result));
    if (usage) {
      fields.usage = JSON.parse(JSON.stringify(usage));
      const [prompt, completion] = totals(usage);
      if (prompt !== undefined) fields.prompt_tokens = prompt;
      if (completion !== undefined) fields.completion_tokens = completion;
      const model = modelOf(result);
      if (model) fields.model = model;
    }
  } catch (error) {
    console.warn("pikarc: the usage of a call could not be read; it is reported without", error);
  }
  if (extractor) {
    try {
      const [prompt, completion] = extractor(whole as T);
      fields.prompt_tokens = counted(prompt);
      fields.completion_tokens = counted(completion);
    } catch (error) {
      console.warn("pikarc: tokenExtractor failed; the call is reported with the usage that was found without it", error);
    }
  }
  return fields;
}

/**
 * Returns a framework's own usage object in the form of OpenAI's responses, which servers read with its cached and reasoning
 * tokens; a provider's as it is.
 */
function normal(u: Members | undefined): Members | undefined {
  if (!u) return undefined;
  const part = (from: unknown, ...names: string[]) => {
    const details = members(Array.isArray(from) ? Object.assign({}, ...(from as object[])) : from) ?? {};
    return names.map((name) => counted(details[name])).find((n) => n !== undefined);
  };
  const made = (input: unknown, cached?: number, written?: number, output?: unknown, reasoning?: number): Members => ({
    input_tokens: counted(input) ?? 0,
    input_tokens_details: { cached_tokens: cached ?? 0, cache_write_tokens: written ?? 0 },
    output_tokens: counted(output) ?? 0,
    output_tokens_details: { reasoning_tokens: reasoning ?? 0 },
  });
  const [input, output] = [members(u["inputTokens"]), members(u["outputTokens"])];
  if (input || output) { // the AI SDK's models
    return made(input?.["total"], part(input, "cacheRead"), part(input, "cacheWrite"), output?.["total"], part(output, "reasoning"));
  }
  const [ins, outs] = [u["inputTokensDetails"] ?? u["inputTokenDetails"], u["outputTokensDetails"] ?? u["outputTokenDetails"]];
  if (ins || outs) { // OpenAI's Agents SDK, and the AI SDK's results
    const cached = part(ins, "cached_tokens", "cacheReadTokens");
    return made(u["inputTokens"], cached, part(ins, "cache_write_tokens", "cacheWriteTokens"), u["outputTokens"], part(outs, "reasoning_tokens", "reasoningTokens"));
  }
  if (u["input_token_details"] || u["output_token_details"]) { // LangChain
    const [i, o] = [u["input_token_details"], u["output_token_details"]];
    return made(u["input_tokens"], part(i, "cache_read"), part(i, "cache_creation"), u["output_tokens"], part(o, "reasoning"));
  }
  return u;
}

/** Adds what a later part of a stream says of its usage. */
export function merge(usage: Members, later: unknown): Members {
  return { ...usage, ...Object.fromEntries(Object.entries(members(later) ?? {}).filter(([, v]) => v !== null && v !== undefined)) };
}

/** Returns all input and all output of a usage object, cached and reasoning tokens included. */
export function totals(u: Members): [number | undefined, number | undefined] {
  const count = (name: string) => counted(u[name]);
  const has = (...names: string[]) => names.some((name) => u[name] !== undefined && u[name] !== null);
  if (has("prompt_tokens", "completion_tokens")) return [count("prompt_tokens"), count("completion_tokens")];
  if (has("promptTokens", "completionTokens")) return [count("promptTokens"), count("completionTokens")];
  if (has("input_tokens", "output_tokens")) {
    const beside = members(u["input_tokens_details"])
      ? 0
      : (count("cache_read_input_tokens") ?? 0) + (count("cache_creation_input_tokens") ?? 0);
    const input = count("input_tokens");
    return [input === undefined && !beside ? undefined : (input ?? 0) + beside, count("output_tokens")];
  }
  if (has("inputTokens", "outputTokens")) {
    const beside = (count("cacheReadInputTokens") ?? 0) + (count("cacheWriteInputTokens") ?? 0);
    return [(count("inputTokens") ?? 0) + beside, count("outputTokens")];
  }
  const units = members(u["billed_units"]);
  if (units) return [counted(units["input_tokens"]), counted(units["output_tokens"])];
  const both = (api: string, python: string) => count(api) ?? count(python) ?? 0;
  return [
    both("promptTokenCount", "prompt_token_count") + both("toolUsePromptTokenCount", "tool_use_prompt_token_count"),
    both("candidatesTokenCount", "candidates_token_count") + both("thoughtsTokenCount", "thoughts_token_count"),
  ];
}

/** Reads a count; a fraction is rounded up, for half a token is charged too. */
function counted(value: unknown): number | undefined {
  const n = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  return typeof n === "number" && Number.isFinite(n) ? Math.max(0, Math.ceil(n)) : undefined;
}
