// Carries the suite's cases out with the TypeScript client, a line each.
import { createInterface } from "node:readline";
import { Pikarc, PikarcBlockedError, PikarcError } from "../typescript/dist/index.js";

for await (const line of createInterface({ input: process.stdin })) {
  const ask = JSON.parse(line);
  const done = { called: 0, error: "", journal: 0 };
  const client = new Pikarc({
    apiKey: ask.api_key,
    baseUrl: ask.base_url,
    journalDir: ask.journal_dir,
    timeout: ask.timeout * 1000,
    maxRetries: ask.max_retries,
    onUnavailable: ask.on_unavailable,
  });
  const model = () => (done.called++, { usage: { prompt_tokens: 500, completion_tokens: 100 } });
  const tool = () => (done.called++, "done");
  if (!ask.calls) {
    await client.flush();
  } else {
    try {
      await client.run({ userId: ask.user }, async (run) => {
        for (const call of ask.calls) {
          if (call === "model") await run.modelCall(model, { model: "suite-model" });
          else await run.toolCall(tool, { toolName: "suite-tool" });
        }
      });
    } catch (error) {
      if (!(error instanceof PikarcError)) throw error;
      done.error = error.name;
      if (error instanceof PikarcBlockedError) done.reason = error.reason;
    }
  }
  done.journal = await client.journalLength();
  console.log(JSON.stringify(done));
}
