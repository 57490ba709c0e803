// Wrapped clients of OpenAI and Anthropic ask before each call, and report exactly what it used, as a provider on this machine counts it.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { PikarcBlockedError } from "../../typescript/dist/index.js";
import { Books } from "../../typescript/test/books.mjs";

const CHAT = { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12, prompt_tokens_details: { cached_tokens: 3 }, completion_tokens_details: { reasoning_tokens: 2 } };
const RESPONSES = { input_tokens: 7, output_tokens: 5, total_tokens: 12, input_tokens_details: { cached_tokens: 3 }, output_tokens_details: { reasoning_tokens: 2 } };
const MESSAGES = { input_tokens: 3, output_tokens: 5, cache_read_input_tokens: 3, cache_creation_input_tokens: 1, output_tokens_details: { thinking_tokens: 2 } };
const EMBEDDINGS = { prompt_tokens: 7, total_tokens: 7 };
const model = "test-model";

const chunk = (more) => ({ id: "c", object: "chat.completion.chunk", created: 1, model, ...more });
const said = { index: 0, finish_reason: null, delta: { role: "assistant", content: "so" } };
const chat = { id: "c", object: "chat.completion", created: 1, model, usage: CHAT, choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: "so" } }] };
const item = { id: "m", type: "message", role: "assistant", status: "completed", content: [{ type: "output_text", text: "so", annotations: [] }] };
const response = (status, more) => ({ id: "r", object: "response", created_at: 1, model, status, output: [], ...more });
const message = { id: "m", type: "message", role: "assistant", model, content: [], stop_reason: null, stop_sequence: null, usage: { ...MESSAGES, output_tokens: 1 } };
const named = (events) => events.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join("");

/** What the provider streams at each path. */
const streams = {
  "/chat/completions": ({ stream_options }) => {
    const parts = [chunk({ choices: [said] }), chunk({ choices: [{ index: 0, finish_reason: "stop", delta: {} }] })];
    if (stream_options?.include_usage) parts.push(chunk({ choices: [], usage: CHAT }));
    return parts.map((part) => `data: ${JSON.stringify(part)}\n\n`).join("") + "data: [DONE]\n\n";
  },
  "/responses": () =>
    named([
      { type: "response.created", sequence_number: 0, response: response("in_progress") },
      { type: "response.output_item.added", sequence_number: 1, output_index: 0, item: { ...item, status: "in_progress", content: [] } },
      { type: "response.content_part.added", sequence_number: 2, item_id: "m", output_index: 0, content_index: 0, part: { type: "output_text", text: "", annotations: [] } },
      { type: "response.output_text.delta", sequence_number: 3, item_id: "m", output_index: 0, content_index: 0, delta: "so" },
      { type: "response.completed", sequence_number: 4, response: response("completed", { output: [item], usage: RESPONSES }) },
    ]),
  "/v1/messages": () =>
    named([
      { type: "message_start", message },
      { type: "content_block_start", index: 0, content_block: { type: "text", text: "" } },
      { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "so" } },
      { type: "content_block_stop", index: 0 },
      { type: "message_delta", delta: { stop_reason: "end_turn", stop_sequence: null }, usage: { output_tokens: 5, output_tokens_details: { thinking_tokens: 2 } } },
      { type: "message_stop" },
    ]),
};
const answers = {
  "/chat/completions": chat,
  "/responses": response("completed", { output: [item], usage: RESPONSES }),
  "/v1/messages": { ...message, content: [{ type: "text", text: "so" }], stop_reason: "end_turn", usage: MESSAGES },
  "/embeddings": { object: "list", model, usage: EMBEDDINGS, data: [{ object: "embedding", index: 0, embedding: [0.5] }] },
  "/images/generations": { created: 1, data: [], usage: { input_tokens: 7, output_tokens: 5, total_tokens: 12, input_tokens_details: { text_tokens: 7, image_tokens: 0 } } },
  "/v1/messages/count_tokens": { input_tokens: 7 },
};

let provider, base;
const asked = [];
before(async () => {
  provider = createServer(async (request, reply) => {
    const chunks = [];
    for await (const part of request) chunks.push(part);
    const [path] = request.url.split("?");
    const body = JSON.parse(Buffer.concat(chunks).toString() || "{}");
    asked.push([path, body]);
    reply.setHeader("request-id", "req_1").setHeader("x-request-id", "req_1");
    if (body.model === "breaks") { // in the middle of a stream
      reply.writeHead(200, { "content-type": "text/event-stream" });
      const [first] = streams[path](body).split("\n\n");
      reply.write(`${first}\n\n`, () => setTimeout(() => reply.destroy(), 50));
      return;
    }
    if (body.stream) return reply.writeHead(200, { "content-type": "text/event-stream" }).end(streams[path](body));
    reply.writeHead(path in answers ? 200 : 404, { "content-type": "application/json" }).end(JSON.stringify(answers[path] ?? { data: [] }));
  });
  await new Promise((resolve) => provider.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${provider.address().port}`;
});
after(() => {
  provider.close();
  provider.closeAllConnections();
});

const openai = () => new OpenAI({ apiKey: "k", baseURL: base, maxRetries: 0 });
const anthropic = () => new Anthropic({ apiKey: "k", baseURL: base, maxRetries: 0 });
const messages = [{ role: "user", content: "go" }];

async function all(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

/** Runs an agent that has wrapped clients, and returns its books, what it was told, and the reports. */
async function agent(work, options) {
  asked.length = 0;
  const books = new Books();
  const reports = [];
  const guard = books.client({
    fetch: (url, init) => (init.method === "PATCH" && reports.push(JSON.parse(init.body)), options?.fetch?.(url, init) ?? books.fetch(url, init)),
  });
  const made = { openai: guard.wrap(openai()), anthropic: guard.wrap(anthropic()), guard };
  const [got, error] = await guard.run({ userId: "ada" }, () => work(made)).then((got) => [got], (error) => [undefined, error]); // prettier-ignore
  books.assertSettled();
  return { got, error, reports, books, steps: [...books.steps.values()] };
}

const create = (stream) => ({
  "chat.completions.create": [({ openai }) => openai.chat.completions.create({ model, messages, stream }), CHAT, 7],
  "responses.create": [({ openai }) => openai.responses.create({ model, input: "go", stream }), RESPONSES, 7],
  "messages.create": [({ anthropic }) => anthropic.messages.create({ model, max_tokens: 9, messages, stream }), MESSAGES, 7],
  "beta.messages.create": [({ anthropic }) => anthropic.beta.messages.create({ model, max_tokens: 9, messages, stream }), MESSAGES, 7],
});
const answered = {
  ...create(false),
  "chat.completions.parse": [({ openai }) => openai.chat.completions.parse({ model, messages }), CHAT, 7],
  "responses.parse": [({ openai }) => openai.responses.parse({ model, input: "go" }), RESPONSES, 7],
  "chat.completions.create, of a client with other options": [({ openai }) => openai.withOptions({ timeout: 9_000 }).chat.completions.create({ model, messages }), CHAT, 7],
  "messages.create, of a client with other options": [({ anthropic }) => anthropic.withOptions({ timeout: 9_000 }).messages.create({ model, max_tokens: 9, messages }), MESSAGES, 7],
};
const streamed = {
  ...create(true),
  "chat.completions.stream": [({ openai }) => openai.chat.completions.stream({ model, messages }), CHAT, 7],
  "responses.stream": [({ openai }) => openai.responses.stream({ model, input: "go" }), RESPONSES, 7],
  "messages.stream": [({ anthropic }) => anthropic.messages.stream({ model, max_tokens: 9, messages }), MESSAGES, 7],
};

/** A step is booked once, with all that the provider counted. */
function booked({ error, reports, steps }, usage, prompt, completion = 5) {
  assert.equal(error, undefined);
  assert.deepEqual(steps, ["COMPLETED"]);
  assert.equal(reports.length, 1);
  assert.deepEqual([reports[0].prompt_tokens, reports[0].completion_tokens, reports[0].usage, reports[0].model], [prompt, completion, usage, model]);
}

for (const [name, [call, usage, prompt]] of Object.entries(answered)) {
  test(`${name}: an answer is passed on, and booked as the provider counted it`, async () => {
    const done = await agent(call);
    booked(done, usage, prompt);
    assert.match(JSON.stringify(done.got), /"so"/);
  });
}

for (const [name, [call, usage, prompt]] of Object.entries(streamed)) {
  test(`${name}: a stream is passed on untouched, and booked as the provider counted it`, async () => {
    const bare = await all(await call({ openai: openai(), anthropic: anthropic() }));
    const done = await agent(async (made) => all(await call(made)));
    booked(done, usage, prompt);
    assert.deepEqual(done.got, bare);
    assert.ok(bare.length > 1);
  });

  test(`${name}: a stream that is left early is settled once, with what came`, async () => {
    const done = await agent(async (made) => {
      for await (const part of await call(made)) return part;
    });
    assert.equal(done.error, undefined);
    assert.deepEqual([done.steps, done.reports.length], [["COMPLETED"], 1]);
    assert.ok(done.reports[0].completion_tokens >= 1, JSON.stringify(done.reports));
  });

  test(`${name}: a denied stream never reaches the provider`, async () => {
    const denied = { fetch: (url) => (url.endsWith("/steps") ? Response.json({ id: "s", decision: { outcome: "DENY", reason: "KILL_SWITCH_ACTIVE" } }) : undefined) };
    const { error } = await agent(async (made) => all(await call(made)), denied);
    assert.ok(error, "it is not denied");
    for (let at = error; !(at instanceof PikarcBlockedError); at = at.cause) assert.ok(at, `it ends with ${error}`);
    assert.deepEqual(asked, []);
  });
}

for (const [name, [call]] of Object.entries(create(true))) {
  test(`${name}: a stream that breaks is settled once as failed`, async () => {
    const broken = (client) => new Proxy(client, { get: (target, key) => (typeof target[key] === "object" ? broken(target[key]) : (body, ...more) => target[key]({ ...body, model: "breaks" }, ...more)) }); // prettier-ignore
    const done = await agent(async ({ openai, anthropic }) => all(await call({ openai: broken(openai), anthropic: broken(anthropic) })));
    assert.ok(done.error);
    assert.deepEqual([done.steps.length, done.reports.length, done.reports[0].status], [1, 1, "FAILED"]);
    assert.ok(done.reports[0].completion_tokens >= 1);
  });
}

test("a stream that asks for its usage itself gets it", async () => {
  const ask = async ({ openai }) => all(await openai.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } }));
  const done = await agent(ask);
  booked(done, CHAT, 7);
  assert.deepEqual(done.got.at(-1).usage, CHAT);
});

test("a stream has what the library's own has", async () => {
  const done = await agent(async ({ openai }) => {
    const stream = await openai.chat.completions.create({ model, messages, stream: true });
    const [one, two] = stream.tee();
    assert.ok(stream.controller instanceof AbortController);
    return Promise.all([all(one), all(two)]);
  });
  booked(done, CHAT, 7);
  assert.deepEqual(done.got[0], done.got[1]);
});

test("an answer has its response and the request's id", async () => {
  const done = await agent(async ({ openai, anthropic }) => {
    const { data, response, request_id } = await openai.chat.completions.create({ model, messages }).withResponse();
    assert.deepEqual([data.usage, response.status, request_id, data._request_id], [CHAT, 200, "req_1", "req_1"]);
    const streaming = await anthropic.messages.create({ model, max_tokens: 9, messages, stream: true }).withResponse();
    assert.equal(streaming.response.status, 200);
    await all(streaming.data);
    await assert.rejects(openai.embeddings.create({ model, input: "go" }).asResponse(), /withResponse/);
  });
  assert.equal(done.error, undefined);
  assert.deepEqual(done.reports.map((report) => report.prompt_tokens), [7, 7, 7]);
});

test("whatever else makes a model work is asked for, and what costs nothing is not", async () => {
  const done = await agent(async ({ openai, anthropic }) => {
    await openai.embeddings.create({ model, input: "go" });
    await openai.images.generate({ model, prompt: "go" });
    await openai.post("/chat/completions", { body: { model, messages } });
    assert.deepEqual(await anthropic.messages.countTokens({ model, messages }), { input_tokens: 7 });

  });
  assert.equal(done.error, undefined);
  assert.deepEqual(done.reports.map((report) => [report.prompt_tokens, report.completion_tokens ?? 0]), [[7, 0], [7, 5], [7, 5]]);
});

test("outside of a run nothing is called", async () => {
  asked.length = 0;
  const wrapped = new Books().client().wrap(openai());
  await assert.rejects(async () => wrapped.chat.completions.create({ model, messages }), /belongs to a run/);
  assert.deepEqual(asked, []);
});

test("the client itself stays as it is, and others are refused", async () => {
  const own = openai();
  const { guard } = (await agent(({ guard }) => ({ guard }))).got;
  guard.wrap(own);
  assert.deepEqual((await own.chat.completions.create({ model, messages })).usage, CHAT);
  for (const other of [{}, { withOptions: () => ({}) }]) assert.throws(() => guard.wrap(other), /openai and @anthropic-ai\/sdk/);
});
