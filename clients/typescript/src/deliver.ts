import { text } from "./answers.js";
import { APIError, Authentication, BadRequest, RateLimited, Unavailable } from "./errors.js";
import type { Entry, Journal } from "./journal.js";
import type { Settings } from "./settings.js";
import { request } from "./transport.js";

/** Reports whether a report is worth another try later. */
export function waits(error: APIError): boolean {
  return error instanceof Unavailable || error instanceof RateLimited || error instanceof Authentication;
}

/** Delivers kept reports, and returns how many. One that fails stays for the next time; it throws nothing. */
export async function deliver(s: Settings, journal: Journal, look = false): Promise<number> {
  let count = 0;
  if (!look && !(await journal.mayHold())) return count;
  await journal.drain(async (entries) => {
    for (const [i, entry] of entries.entries()) {
      try {
        await deliverOne(s, entry);
        count++;
      } catch (error) {
        if (!(error instanceof APIError) || waits(error)) return entries.slice(i);
        console.error("pikarc: the server does not take a kept report, which is dropped:", error.message);
      }
    }
    return [];
  });
  return count;
}

/** Delivers one report. Requests are repeated with their first keys: what has reached the server is no double. */
async function deliverOne(s: Settings, entry: Entry): Promise<void> {
  if (entry.kind === "request") {
    await request(s, entry.method ?? "", entry.path ?? "", entry.body);
    return;
  }
  const started = () => request(s, "POST", "/v1/runs/", entry.start, { key: entry.key ?? "" });
  const runId = entry.runId ?? text(await started(), "id");
  if (entry.kind === "end") {
    await request(s, "POST", `/v1/runs/${runId}/end`, { status: entry.status });
    return;
  }
  const answer = await request(s, "POST", `/v1/runs/${runId}/steps`, entry.step, { key: entry.stepKey ?? "" });
  try {
    // The mark is where the run's page shows it.
    await request(s, "PATCH", `/v1/runs/${runId}/steps/${text(answer, "id")}`, { ...entry.report, output_data: { unguarded: true } });
  } catch (error) {
    if (!(error instanceof BadRequest)) throw error; // denied afterwards: the server books nothing on what it denied
    console.error("pikarc: a call was made while the server could not be asked, and would have been denied:", error.message);
  }
}
