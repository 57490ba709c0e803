import { members, type Members } from "./answers.js";
import type { Pikarc } from "./client.js";

type Call = (body: Members, ...more: unknown[]) => Answer;
type Answer = Promise<unknown> & { withResponse?: () => Promise<Members> };

/** Where OpenAI's and Anthropic's clients ask models. Their helpers (parse, stream, toolRunner) come down to these. */
const places = [
  "chat.completions.create", "responses.create", "completions.create", "embeddings.create", // OpenAI
  "messages.create", "beta.messages.create", "beta.chat.completions.create", // Anthropic, and older OpenAI
]; // prettier-ignore

/** Guards a copy of a client: its `withOptions` makes one with the same settings, whose methods are replaced. */
export function wrap<C extends object>(guard: Pikarc, client: C): C {
  const copied = (client as { withOptions?: (changes: object) => C }).withOptions?.({});
  let found = 0;
  for (const place of copied ? places : []) {
    const path = place.split(".");
    const name = path.pop() as string;
    const resource = path.reduce<Members | undefined>((at, step) => at?.[step] as Members | undefined, copied as Members);
    if (typeof resource?.[name] !== "function") continue;
    const original = (resource[name] as Call).bind(resource);
    resource[name] = (body: Members, ...more: unknown[]) => guarded(guard, place, original, body, more);
    found++;
  }
  if (!copied || found === 0) throw new TypeError("guard.wrap knows the clients of the packages openai and @anthropic-ai/sdk");
  return copied;
}

function guarded(guard: Pikarc, place: string, original: Call, body: Members, more: unknown[]): Answer {
  let answer: Answer | undefined;
  const asked = { ...body };
  // Chat completions tell a stream's usage only where they are asked to.
  const ours = place.includes("chat.completions") && body["stream"] === true && body["stream_options"] === undefined;
  if (ours) asked["stream_options"] = { include_usage: true };
  const make = async () => await (answer = original(asked, ...more));
  const options = { model: String(body["model"] ?? ""), inputData: body };
  const made = async () => {
    const run = guard.current();
    if (body["stream"] !== true) return run.modelCall(make, options);
    let stream: Members | undefined;
    const chunks = await run.modelStream(async () => (stream = (await make()) as Members) as unknown as AsyncIterable<Members>, options);
    // The library's own class, for its tee and toReadableStream.
    const Stream = (stream as Members).constructor as new (iterator: () => AsyncIterator<unknown>, controller: unknown) => unknown;
    return new Stream(() => (ours ? withoutUsage(chunks) : chunks), stream?.["controller"]);
  };
  return like(made(), () => answer);
}

/** Takes out the last chunk, which holds nothing but the usage that the caller has not asked for. */
async function* withoutUsage(chunks: AsyncGenerator<Members>): AsyncGenerator<Members> {
  for await (const chunk of chunks) {
    const { choices, usage } = chunk;
    if (!(Array.isArray(choices) && choices.length === 0 && usage)) yield chunk;
  }
}

/** Gives a promise the methods that those of the libraries have. */
function like(made: Promise<unknown>, answer: () => Answer | undefined): Answer {
  return Object.assign(made, {
    withResponse: async () => {
      const data = await made;
      return { ...members(await answer()?.withResponse?.()), data };
    },
    asResponse: () => made.then(() => Promise.reject(new TypeError("of a guarded call, the bare response was read: use withResponse()"))),
    _thenUnwrap: (change: (data: unknown, props: unknown) => unknown) => like(made.then((data) => change(data, {})), answer),
  });
}
