// Carries the suite's cases out with the TypeScript client, a line each.
import { createInterface } from "node:readline";
import { Pikarc, PikarcBlockedError, PikarcError } from "../typescript/dist/index.js";

const used = { usage: { prompt_tokens: 500, completion_tokens: 100 } };
const huge = "x".repeat(50_000_000);
const model = "suite-model";
class Own extends Error {}

const calls = {
  model: (run, returns) => run.modelCall(returns(used), { model }),
  tool: (run, returns) => run.toolCall(returns("done"), { toolName: "suite-tool" }),
  reviewed: (run, returns) => run.toolCall(returns("done"), { toolName: "suite-reviewed" }),
  "extractor raises": (run, returns) => run.modelCall(returns(used), { model, tokenExtractor: () => { throw new RangeError("no tokens here"); } }),
  floats: (run, returns) => run.modelCall(returns("said"), { model, tokenExtractor: () => [499.5, 100.0] }),
  "50 MB": (run, returns) => run.toolCall(returns(huge), { toolName: "suite-tool", inputData: { page: huge } }),
  NUL: (run, returns) => run.toolCall(() => (returns()(), Promise.reject(new Own("a\0b"))), { toolName: "suite-tool" }),
}; // prettier-ignore

function setUp(ask) {
  return new Pikarc({
    apiKey: ask.api_key,
    baseUrl: ask.base_url,
    journalDir: ask.journal_dir,
    timeout: ask.timeout * 1000,
    maxRetries: ask.max_retries,
    onUnavailable: ask.on_unavailable,
  });
}

async function carryOut(client, ask, done) {
  const returns = (result) => () => (done.called++, result);
  const metadata = ask.metadata ? { made: () => 1, big: 10n, not: NaN } : undefined;
  try {
    await client.run({ userId: ask.user, metadata }, async (run) => {
      for (const call of ask.calls) await calls[call](run, returns);
    });
  } catch (error) {
    if (!(error instanceof PikarcError || error instanceof Own)) throw error;
    done.error = error instanceof Own ? "its own" : error.name;
    if (error instanceof PikarcBlockedError) done.reason = error.reason;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const ask = JSON.parse(line);
  const done = { called: 0, error: "", journal: 0 };
  let client;
  try {
    client = setUp(ask);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    done.error = "setting";
  }
  if (client && !ask.calls) await client.flush();
  else if (client) await carryOut(client, ask, done);
  if (client) done.journal = await client.journalLength();
  console.log(JSON.stringify(done));
}
