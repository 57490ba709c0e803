import { PikarcBlockedError, Unavailable } from "./errors.js";
import type { Settings } from "./settings.js";
import type { CreatedStep, Decision } from "./wire.js";

export type Members = Record<string, unknown>;

export function goesOn(s: Settings, error: Unavailable): boolean {
  const on = typeof s.onUnavailable === "function" ? s.onUnavailable(error) === true : s.onUnavailable === "open";
  if (on) console.warn("pikarc: the server cannot be asked; the call goes on unguarded:", error.message);
  return on;
}

/** Returns the id of the review to wait for, or undefined for ALLOW. Anything else is not allowed. */
export function allow(answer: Members, runId: string | undefined): string | undefined {
  const decision: Partial<Decision> = members(answer["decision"]); // by a server of whatever version
  if (decision.outcome === "ALLOW") return undefined;
  const known = <T>(name: keyof Decision, type: string) => (typeof decision[name] === type ? (decision[name] as T) : undefined);
  if (decision.outcome === "REVIEW") {
    const review = (answer as Partial<CreatedStep>).review_id ?? decision.review_id;
    if (typeof review === "string") return review;
    throw new PikarcBlockedError({ reason: "REVIEW_ERROR", runId });
  }
  if (decision.outcome !== "DENY") throw new Unavailable(`The server's answer holds no decision: ${JSON.stringify(answer).slice(0, 200)}`);
  throw new PikarcBlockedError({
    reason: known<string>("reason", "string") ?? "DENIED",
    policyName: known<string>("policy_name", "string"),
    limit: known<number>("limit", "number"),
    used: known<number>("used", "number"),
    resetsAt: known<string>("resets_at", "string"),
    message: known<string>("message", "string"),
    runId,
    stepId: typeof answer["id"] === "string" ? answer["id"] : undefined,
  });
}

export function members(value: unknown): Members {
  return typeof value === "object" && value !== null ? (value as Members) : {};
}

export function text(answer: Members, name: string): string {
  const value = answer[name];
  if (typeof value !== "string" || value === "") {
    throw new Unavailable(`The server's answer holds no ${name}: ${JSON.stringify(answer).slice(0, 200)}`);
  }
  return value;
}
