/**
 * Guards the clients of OpenAI, of Anthropic and those derived from them.
 *
 * All their resources make a model work by the client's own `post`, so that a copy of a client with another `post` guards them
 * all, and their helpers (`parse`, `stream`, `toolRunner`) too.
 */
import { members, type Members } from "./answers.js";
import type { Pikarc } from "./client.js";

type Asked = Members & { body?: unknown; stream?: boolean };
type Change = (data: unknown, props: Members) => unknown;

/** What the methods of these libraries return: a promise that also gives the response. */
interface Answer extends Promise<unknown> {
  responsePromise: Promise<Members>;
  asResponse(): Promise<unknown>;
  withResponse(): Promise<Members>;
}
interface Client {
  post(path: string, options?: Asked | Promise<Asked>): Answer;
  withOptions(changes: object): Client;
}

/** Paths without a model's name in the body that make one work all the same. */
const works = new RegExp(
  "/(batches|threads/runs|threads/[^/]+/runs(/[^/]+/submit_tool_outputs)?|evals/[^/]+/runs|graders/run|videos(/.*)?" +
    "|images/[a-z]+|audio/(speech|transcriptions|translations)|realtime/.*|live/sessions(/.*)?|agents/sessions(/[^/]+/events)?" +
    "|sessions(/[^/]+/events)?|deployments/[^/]+/run|automations/[^/]+/invocations|dreams|decisions)$",
);
/** Paths with a model's name that cost nothing, and calls off. */
const free = /\/(count_tokens|input_tokens|moderations|cancel|archive|assistants(\/[^/]+)?|agents(\/[^/]+)?)$/;

/** Returns a guarded copy of a client, whose own copies are guarded too. */
export function wrap<C extends object>(guard: Pikarc, client: C): C {
  const given = client as unknown as Partial<Client>;
  const copied = typeof given.post === "function" ? given.withOptions?.({}) : undefined;
  if (typeof copied?.post !== "function") throw new TypeError("guard.wrap knows the clients of the packages openai and @anthropic-ai/sdk");
  return guarded(guard, copied) as unknown as C;
}

function guarded(guard: Pikarc, client: Client): Client {
  const [post, withOptions] = [client.post.bind(client), client.withOptions.bind(client)];
  client.post = (path, options) => new GuardedAnswer(begin(guard, client, post, path, options)) as unknown as Answer;
  client.withOptions = (changes) => guarded(guard, withOptions(changes));
  return client;
}

/** A call that was made. What a guarded one has returned is there; another's may still be read as its caller likes. */
interface Made {
  answer: Answer;
  data?: { value: unknown };
}

async function begin(guard: Pikarc, client: Client, post: Client["post"], path: string, given?: Asked | Promise<Asked>): Promise<Made> {
  const options = (await given) ?? {};
  const model = modelOf(path, options.body);
  if (model === undefined) return { answer: post(path, options) };
  const run = guard.current();
  const { asked, unasked } = prepared(path, options);
  let answer: Answer | undefined;
  const make = async () => await (answer = post(path, asked));
  const call = { model, inputData: isForm(options.body) ? undefined : options.body };
  const value = options.stream ? await streamed() : await run.modelCall(make, call);
  return { answer: answer as unknown as Answer, data: { value } };

  async function streamed(): Promise<unknown> {
    let stream: Members | undefined;
    const chunks = await run.modelStream(async () => (stream = members(await make())) as unknown as AsyncIterable<Members>, call);
    // The library's own class, for its tee and toReadableStream.
    const Stream = members(stream).constructor as new (iterator: () => AsyncIterator<unknown>, controller: unknown, client: Client) => unknown;
    return new Stream(() => (unasked ? withoutUsage(chunks) : chunks), stream?.["controller"], client);
  }
}

/** Returns the name of the model that a request makes work, or undefined where it makes none. */
function modelOf(path: string, body: unknown): string | undefined {
  const [place = ""] = path.split("?");
  if (free.test(place)) return undefined;
  const named = isForm(body) ? (body.get("model") ?? undefined) : members(body)["model"];
  if (typeof named === "string" && named) return named;
  return named !== undefined || works.test(place) ? place.replace(/^\/+|\/+$/g, "") : undefined;
}

function isForm(body: unknown): body is FormData {
  return typeof FormData !== "undefined" && body instanceof FormData;
}

/** Makes a stream of chat completions tell its usage, and says whether it would not have. */
function prepared(path: string, options: Asked): { asked: Asked; unasked: boolean } {
  const body = members(options.body);
  const wishes = members(body["stream_options"]);
  if (!options.stream || !/\/completions(\?|$)/.test(path) || wishes["include_usage"]) return { asked: options, unasked: false };
  return { asked: { ...options, body: { ...body, stream_options: { ...wishes, include_usage: true } } }, unasked: true };
}

/** Takes out the last chunk, which holds nothing but the usage that the caller has not asked for. */
async function* withoutUsage(chunks: AsyncGenerator<Members>): AsyncGenerator<Members> {
  for await (const chunk of chunks) {
    const { choices, usage } = chunk;
    if (!(Array.isArray(choices) && choices.length === 0 && usage)) yield chunk;
  }
}

/** A call in the form of the libraries' own promises, which are of what comes once it has been made. */
class GuardedAnswer extends Promise<unknown> {
  private parsed: Promise<unknown> | undefined;

  constructor(
    private readonly made: Promise<Made>,
    private readonly change?: Change,
  ) {
    super((resolve) => resolve(undefined)); // never seen: what is waited for is what `then` below gives
  }

  private parse(): Promise<unknown> {
    return (this.parsed ??= this.made.then(async ({ answer, data }) => {
      const value = data ? data.value : await answer;
      if (!this.change) return value;
      const changed = this.change(value, await answer.responsePromise);
      const id = { value: members(value)["_request_id"], enumerable: false, configurable: true };
      return typeof changed === "object" && changed !== null && !("_request_id" in changed) ? Object.defineProperty(changed, "_request_id", id) : changed;
    }));
  }

  override then<A = unknown, B = never>(
    fulfilled?: ((value: unknown) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.parse().then(fulfilled, rejected);
  }

  override catch<B = never>(rejected?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<unknown> {
    return this.parse().catch(rejected);
  }

  override finally(last?: (() => void) | null): Promise<unknown> {
    return this.parse().finally(last);
  }

  async withResponse(): Promise<Members> {
    const data = await this.parse();
    return { ...(await (await this.made).answer.withResponse()), data };
  }

  async asResponse(): Promise<unknown> {
    const { answer, data } = await this.made;
    if (data) throw new TypeError("of a guarded call, the bare response was read: use withResponse()");
    return answer.asResponse();
  }

  _thenUnwrap(change: Change): GuardedAnswer {
    const before = this.change;
    return new GuardedAnswer(this.made, before ? (data, props) => change(before(data, props), props) : change);
  }
}
