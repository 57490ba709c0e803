// The event stream of the workspace, read with fetch because EventSource sends no Authorization header.
import type { Schema } from '../api/client'
import { parseExact } from '../api/exact'
import { base } from '../shell/base'
import { session } from '../shell/session.svelte'
import { sseReader } from './sse'

type StreamEvent = Schema<'StreamEvent'>
export type EventName = StreamEvent['event']
type EventData<N extends EventName> = Extract<StreamEvent, { event: N }>['data']
export type Handlers = { [N in EventName]?: (data: EventData<N>) => void }

// The server writes something at least every 15 s; after so much silence the connection is dead.
const SILENCE = 40_000
const FIRST_WAIT = 500
const LONGEST_WAIT = 15_000
// Browsers open six connections to a server for all tabs together: a tab nobody looks at gives its one back.
const HIDDEN_FOR = 5_000

class Stream {
  /** `lost`: it was open, or could not be opened, and is tried again. */
  state: 'off' | 'opening' | 'open' | 'lost' = $state('off')
  /** When what is shown was last known to be whole (performance.now()). */
  wholeSince = 0
  /** How often it was opened. */
  hellos = 0

  #handlers = new Set<Handlers>()
  #refetchers = new Set<() => void>()
  #abort: AbortController | null = null
  #timer: ReturnType<typeof setTimeout> | undefined
  #hiding: ReturnType<typeof setTimeout> | undefined
  #failures = 0

  constructor() {
    window.addEventListener('online', () => this.#retryNow())
    document.addEventListener('visibilitychange', () => this.#onVisibility())
  }

  /** Calls the handlers as events come; returns a function that ends it. */
  on(handlers: Handlers): () => void {
    this.#handlers.add(handlers)
    return () => this.#handlers.delete(handlers)
  }

  /** Calls the function when events may have been missed; returns a function that ends it. */
  onGap(refetch: () => void): () => void {
    this.#refetchers.add(refetch)
    return () => this.#refetchers.delete(refetch)
  }

  start() {
    if (this.state !== 'off') return
    this.state = 'opening'
    void this.#open()
  }

  stop() {
    clearTimeout(this.#timer)
    this.#abort?.abort()
    this.#abort = null
    this.#failures = 0
    this.state = 'off'
  }

  async #open() {
    const token = session.token
    if (!token) return this.stop()
    const abort = new AbortController()
    this.#abort = abort
    let wait = 0
    try {
      wait = await this.#read(token, abort)
    } catch {
      // A lost connection is told by the state; there is nothing to say about how it was lost.
    }
    if (this.#abort !== abort) return
    this.#lose(wait)
  }

  /** Reads until the stream ends; returns how many milliseconds the server asked to wait. */
  async #read(token: string, abort: AbortController): Promise<number> {
    let watchdog = setTimeout(() => abort.abort(), SILENCE)
    try {
      const response = await fetch(base + '/v1/events', {
        headers: { Authorization: `Bearer ${token}`, Accept: 'text/event-stream' },
        signal: abort.signal,
        cache: 'no-store',
      })
      if (response.status === 401) session.expire(token)
      if (!response.ok || !response.body) return Number(response.headers.get('Retry-After')) * 1000 || 0
      const messages = sseReader()
      const text = new TextDecoder()
      const reader = response.body.getReader()
      for (;;) {
        const { done, value } = await reader.read()
        if (done) return 0
        clearTimeout(watchdog)
        watchdog = setTimeout(() => abort.abort(), SILENCE)
        for (const { event, data } of messages(text.decode(value, { stream: true }))) this.#tell(event, data)
      }
    } finally {
      clearTimeout(watchdog)
    }
  }

  #tell(event: string, data: string) {
    if (event === 'hello') {
      this.state = 'open'
      this.hellos++
      this.#failures = 0
      // What was asked for before it may lack what has happened since.
      delete window.pikarcEarly
    }
    if (event === 'hello' || event === 'missed') this.readAgain()
    const value = parseExact(data)
    for (const handlers of [...this.#handlers]) handlers[event as EventName]?.(value as never)
  }

  /** What is shown is whole no longer: all of it is read again. */
  readAgain() {
    this.wholeSince = performance.now()
    for (const refetch of [...this.#refetchers]) refetch()
  }

  #lose(wait: number) {
    this.#abort = null
    if (!session.token) return this.stop()
    this.state = 'lost'
    const backoff = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures++)
    // Many pages lost at once do not come back at once.
    this.#timer = setTimeout(() => void this.#open(), Math.max(wait, backoff * (0.75 + Math.random() / 2)))
  }

  #retryNow() {
    if (this.state !== 'lost' || this.#abort || document.hidden) return
    clearTimeout(this.#timer)
    void this.#open()
  }

  #onVisibility() {
    clearTimeout(this.#hiding)
    if (document.hidden) {
      this.#hiding = setTimeout(() => this.stop(), HIDDEN_FOR)
    } else if (session.token && this.state === 'off') {
      this.start()
    } else {
      this.#retryNow()
    }
  }
}

export const stream = new Stream()

/** Follows the stream for as long as the component that calls this is shown. */
export function follow(handlers: Handlers) {
  $effect(() => stream.on(handlers))
}
