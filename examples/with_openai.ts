// The client of OpenAI under Pikarc's guard, without a model key: a function stands in for OpenAI's server.
//
//   npm install http://localhost:8000/clients/pikarc.tgz openai
//   PIKARC_API_KEY=lg_... node examples/with_openai.ts       (Node 22.18 or later)
import OpenAI from "openai";
import { Pikarc } from "pikarc";

const guard = new Pikarc();

// In your own agent: new OpenAI().
const pretended = async () =>
  Response.json({
    model: "pretended-model",
    choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: "I am a pretence." } }],
    usage: { prompt_tokens: 500, completion_tokens: 100, total_tokens: 600 },
  });
const openai = guard.wrap(new OpenAI({ apiKey: "none", fetch: pretended }));

await guard.run({ userId: "ada" }, async (run) => {
  const answer = await openai.chat.completions.create({ model: "pretended-model", messages: [{ role: "user", content: "Who are you?" }] });
  console.log(answer.choices[0]?.message.content, "Run", run.runId);
});
