/** How a client behaves. Times are in milliseconds. */
export interface Options {
  /** The key; PIKARC_API_KEY unless given. */
  apiKey?: string;
  /** The server's address; PIKARC_BASE_URL unless given, else http://localhost:8000. */
  baseUrl?: string;
  /** For a whole answer. */
  timeout?: number;
  /** Attempts after the first one, for trouble that may pass. */
  maxRetries?: number;
  /**
   * What becomes of a call that the server cannot be asked about: "closed" (it is not made, and Unavailable is thrown),
   * "open" (it is made, and reported later), or a function of the error: true goes on.
   */
  onUnavailable?: "closed" | "open" | ((error: Error) => boolean);
  /** "wait" for a person, "raise" ReviewPending, or a function of the review's id: true waits. */
  onReview?: "wait" | "raise" | ((reviewId: string) => boolean);
  /** To wait for a person. */
  reviewTimeout?: number;
  /** For what is left to report when a call is cancelled. */
  grace?: number;
  /** Between signs of life of a run whose call takes long. */
  heartbeat?: number;
  /** Where reports are kept that could not be delivered; PIKARC_JOURNAL_DIR unless given, else a directory of the user's. */
  journalDir?: string;
  /** In the place of the runtime's own. */
  fetch?: typeof fetch;
}

export type Settings = Required<Omit<Options, "journalDir">> & { journalDir: string | undefined };

const defaults = {
  baseUrl: "http://localhost:8000",
  timeout: 10_000,
  maxRetries: 3,
  onUnavailable: "closed",
  onReview: "wait",
  reviewTimeout: 300_000,
  grace: 2_000,
  heartbeat: 30_000,
} as const;

/** Reads the settings from options and environment. Throws a TypeError that names what is wrong, never the key itself. */
export function settings(options: Options): Settings {
  const env = (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env ?? {};
  const apiKey = options.apiKey || env["PIKARC_API_KEY"];
  if (!apiKey) throw new TypeError("apiKey must be given, or PIKARC_API_KEY be set");
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Options;
  const made: Settings = {
    fetch: (...args: Parameters<typeof fetch>) => globalThis.fetch(...args),
    journalDir: undefined,
    ...defaults,
    ...given,
    apiKey,
    baseUrl: (options.baseUrl || env["PIKARC_BASE_URL"] || defaults.baseUrl).replace(/\/+$/, ""),
  };
  check(made);
  return made;
}

function check(s: Settings): void {
  if (!/^[\x21-\x7e]+$/.test(s.apiKey)) {
    throw new TypeError("apiKey holds a space, a line break or another character that no key has: was it copied whole?");
  }
  let url: URL | undefined;
  try {
    url = new URL(s.baseUrl);
  } catch {
    // said below
  }
  if (!url || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new TypeError(`baseUrl must begin with http:// or https://, as in ${defaults.baseUrl}`);
  }
  if (url.pathname.replace(/\/+$/, "").endsWith("/v1") || url.search || url.hash) {
    throw new TypeError("baseUrl is the server's address alone: leave out /v1, ? and #");
  }
  if (url.username || url.password) throw new TypeError("baseUrl must not hold a password");
  if (!(s.timeout > 0) || !(s.maxRetries >= 0) || !(s.reviewTimeout >= 0) || !(s.grace >= 0) || !(s.heartbeat > 0)) {
    throw new TypeError("times must be above 0, and maxRetries 0 or more");
  }
}
