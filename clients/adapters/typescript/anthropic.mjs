// A stand-in for Anthropic's Messages API on this machine, for programs that ask for streams.
import { createServer } from "node:http";

const started = { input_tokens: 6, cache_read_input_tokens: 4, cache_creation_input_tokens: 0, output_tokens: 1 };
const ended = { output_tokens: 5, output_tokens_details: { thinking_tokens: 2 } };
const deltas = {
  tool_use: ({ input }) => ({ type: "input_json_delta", partial_json: JSON.stringify(input) }),
  text: ({ text }) => ({ type: "text_delta", text }),
};

/** The events of an answer of these blocks of content. */
function events(model, id, blocks) {
  const message = { id, type: "message", role: "assistant", model, content: [], stop_reason: null, stop_sequence: null, usage: started };
  const stop_reason = blocks.some((block) => block.type === "tool_use") ? "tool_use" : "end_turn";
  return [
    { type: "message_start", message },
    ...blocks.flatMap((block, index) => [
      { type: "content_block_start", index, content_block: { ...block, ...(block.type === "text" ? { text: "" } : { input: {} }) } },
      { type: "content_block_delta", index, delta: deltas[block.type](block) },
      { type: "content_block_stop", index },
    ]),
    { type: "message_delta", delta: { stop_reason, stop_sequence: null }, usage: ended },
    { type: "message_stop" },
  ];
}

/** Serves it while `use` runs. `answer` makes blocks of content of what is asked. */
export async function standIn(answer, use) {
  let asked = 0;
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    if (request.method !== "POST" || !request.url.startsWith("/v1/messages?")) return response.writeHead(404).end();
    const body = JSON.parse(Buffer.concat(chunks));
    response.writeHead(200, { "content-type": "text/event-stream" });
    const said = events(body.model, `msg_${++asked}`, await answer(body));
    response.end(said.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(""));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    return await use(`http://127.0.0.1:${server.address().port}`);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}
