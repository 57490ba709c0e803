// One connection to the event stream, opened again whenever it is lost. It is read with fetch because EventSource sends
// no Authorization header. It knows nothing of the page: the worker that all windows share holds it, or the page itself.
import { sseReader } from './sse'

/** What a connection tells. */
export type Told =
  | { kind: 'event'; event: string; data: string }
  /** It is open: all that comes from now on is told, and for so many milliseconds before nothing had changed. */
  | { kind: 'open'; quiet: number }
  /** It was open, or could not be opened, and is tried again. */
  | { kind: 'lost' }
  /** The server no longer takes the token. */
  | { kind: 'refused' }

// The server writes something at least every 15 s; after so much silence the connection is dead.
const SILENCE = 40_000
const FIRST_WAIT = 500
const LONGEST_WAIT = 15_000

export class Connection {
  /** Since when nothing has changed that was not told (performance.now()); null while it is not open. */
  quietSince: number | null = null

  #url: string
  #token: string
  #tell: (told: Told) => void
  #abort: AbortController | null = null
  #timer: ReturnType<typeof setTimeout> | undefined
  #failures = 0

  constructor(url: string, token: string, tell: (told: Told) => void) {
    this.#url = url
    this.#token = token
    this.#tell = tell
    void this.#open()
  }

  close() {
    clearTimeout(this.#timer)
    this.#abort?.abort()
    this.#abort = null
    this.quietSince = null
    this.#tell = () => {}
  }

  /** Tries again at once, where it waits. */
  retry() {
    if (this.#abort) return
    clearTimeout(this.#timer)
    void this.#open()
  }

  async #open() {
    const abort = new AbortController()
    this.#abort = abort
    let wait = 0
    try {
      wait = await this.#read(abort)
    } catch {
      // A lost connection is told; there is nothing to say about how it was lost.
    }
    if (this.#abort !== abort) return
    this.#abort = null
    this.quietSince = null
    this.#tell({ kind: 'lost' })
    const backoff = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures++)
    // Many pages lost at once do not come back at once.
    const pause = Math.max(wait, backoff * (0.75 + Math.random() / 2))
    this.#timer = setTimeout(() => void this.#open(), pause)
  }

  /** Reads until the stream ends; returns how many milliseconds the server asked to wait. */
  async #read(abort: AbortController): Promise<number> {
    let watchdog = setTimeout(() => abort.abort(), SILENCE)
    try {
      const response = await fetch(this.#url, {
        headers: { Authorization: `Bearer ${this.#token}`, Accept: 'text/event-stream' },
        signal: abort.signal,
        cache: 'no-store',
      })
      if (response.status === 401) this.#tell({ kind: 'refused' })
      if (!response.ok || !response.body) return Number(response.headers.get('Retry-After')) * 1000 || 0
      const messages = sseReader()
      const text = new TextDecoder()
      const reader = response.body.getReader()
      for (;;) {
        const { done, value } = await reader.read()
        if (done) return 0
        clearTimeout(watchdog)
        watchdog = setTimeout(() => abort.abort(), SILENCE)
        for (const { event, data } of messages(text.decode(value, { stream: true }))) {
          const now = performance.now()
          if (event !== 'hello') {
            this.quietSince = now
            this.#tell({ kind: 'event', event, data })
            continue
          }
          this.#failures = 0
          // A server of before says nothing of it.
          const { quiet_ms: quiet = 0 } = JSON.parse(data) as { quiet_ms?: number }
          this.quietSince = now - quiet
          this.#tell({ kind: 'open', quiet })
        }
      }
    } finally {
      clearTimeout(watchdog)
    }
  }
}
