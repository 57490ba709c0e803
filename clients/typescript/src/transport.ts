import { encode } from "./json.js";
import { ConnectionFailed, Unavailable, errorFor, type APIError } from "./errors.js";
import type { Settings } from "./settings.js";

export const version = "1.0.0";
const longestWait = 30_000; // of Retry-After that is obeyed

export interface Sending {
  key?: string;
  /** In milliseconds, for all attempts together. */
  grace?: number;
  signal?: AbortSignal | undefined;
}

type Members = Record<string, unknown>;

/**
 * Sends a request until it is answered, with one idempotency key for all attempts. Throws an APIError: at once for what
 * another attempt cannot change, else after the last one; and the signal's reason.
 */
export async function request(s: Settings, method: string, path: string, body?: unknown, sending: Sending = {}): Promise<Members> {
  const content = body === undefined ? null : encode(body);
  const deadline = sending.grace === undefined ? Infinity : Date.now() + sending.grace;
  for (let attempt = 1; ; attempt++) {
    sending.signal?.throwIfAborted();
    let problem: APIError;
    let wait = Math.random() * Math.min(5_000, 100 * 2 ** attempt);
    try {
      const left = Math.max(50, Math.min(s.timeout, deadline - Date.now()));
      const longPoll = path.includes("?wait=") ? 25_000 : 0;
      const answer = await once(s, method, path, content, sending, left + longPoll);
      if (answer.status < 300) {
        if (typeof answer.body === "object" && answer.body !== null && !Array.isArray(answer.body)) return answer.body as Members;
        problem = new Unavailable(`The answer of ${s.baseUrl} is not Pikarc's: is something else at this address?`, answer.status);
      } else {
        problem = errorFor(answer.status, answer.body, answer.requestId);
        if (answer.status < 500 && answer.status !== 408 && answer.status !== 429) throw problem;
        wait = Math.max(wait, answer.retryAfter);
      }
    } catch (error) {
      if (sending.signal?.aborted) throw sending.signal.reason;
      if (!(error instanceof ConnectionFailed)) throw error;
      problem = error;
    }
    if (attempt > s.maxRetries || Date.now() + wait >= deadline) throw problem;
    await sleep(wait, sending.signal);
  }
}

async function once(s: Settings, method: string, path: string, content: string | null, sending: Sending, timeout: number) {
  const headers: Record<string, string> = {
    authorization: `Bearer ${s.apiKey}`,
    "pikarc-client": `typescript/${version}; review`,
  };
  if (content !== null) headers["content-type"] = "application/json";
  if (sending.key) headers["idempotency-key"] = sending.key;
  const timer = new AbortController();
  const late = setTimeout(() => timer.abort(new DOMException("no whole answer in time", "TimeoutError")), timeout);
  // Not AbortSignal.any: what it makes stays with a signal that lives long.
  const stop = () => timer.abort(sending.signal?.reason);
  sending.signal?.addEventListener("abort", stop, { once: true });
  try {
    const response = await s.fetch(s.baseUrl + path, { method, headers, body: content, signal: timer.signal, redirect: "manual" });
    const text = await response.text();
    return {
      status: response.status,
      body: parse(text),
      requestId: response.headers.get("x-request-id") ?? undefined,
      retryAfter: retryAfter(response.headers.get("retry-after")),
    };
  } catch (error) {
    if (sending.signal?.aborted) throw sending.signal.reason;
    if (timer.signal.aborted) throw new ConnectionFailed(`${s.baseUrl} did not answer in time`);
    const { name, cause } = error as { name?: unknown; cause?: { code?: unknown } }; // fetch says why in its cause alone
    throw new ConnectionFailed(`${s.baseUrl} cannot be reached, or broke off: ${cause?.code ?? name ?? "error"}`);
  } finally {
    clearTimeout(late);
    sending.signal?.removeEventListener("abort", stop);
  }
}

/** How long the server asks to wait, in milliseconds as far as that is obeyed: it says seconds, or a date. */
export function retryAfter(said: string | null): number {
  const seconds = Number(said ?? "0");
  const wait = Number.isNaN(seconds) ? Date.parse(said ?? "") - Date.now() : seconds * 1000;
  return wait > 0 ? Math.min(longestWait, wait) : 0;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Waits, or throws the signal's reason. */
export function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
