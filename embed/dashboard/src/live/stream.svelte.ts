// The event stream of the workspace, as a page hears it: from the worker that all windows share, or, where a browser has
// no such workers, from a connection of its own.
import type { Schema } from '../api/client'
import { parseExact } from '../api/exact'
import { base } from '../shell/base'
import { session } from '../shell/session.svelte'
import { Connection, type Told } from './connection'
import type { Asked } from './worker'

type StreamEvent = Schema<'StreamEvent'>
export type EventName = StreamEvent['event']
type EventData<N extends EventName> = Extract<StreamEvent, { event: N }>['data']
export type Handlers = { [N in EventName]?: (data: EventData<N>) => void }

// A window nobody looks at needs no events, and without a worker holds one of the browser's six connections.
const HIDDEN_FOR = 5_000
type Source = { retry: () => void; leave: () => void }

class Stream {
  /** `lost`: it was open, or could not be opened, and is tried again. */
  state: 'off' | 'opening' | 'open' | 'lost' = $state('off')
  /** What is asked for since then lacks nothing, and is read once (performance.now()). */
  wholeSince = 0

  #handlers = new Set<Handlers>()
  #refetchers = new Set<() => void>()
  #source: Source | null = null
  #wasOpen = false
  #hiding: ReturnType<typeof setTimeout> | undefined
  #worker = window.pikarcEarly?.worker

  constructor() {
    window.addEventListener('online', () => this.#retryNow())
    document.addEventListener('visibilitychange', () => this.#onVisibility())
    // A page in the back/forward cache is frozen with all it holds: it holds nothing.
    window.addEventListener('pagehide', () => this.stop())
    window.addEventListener('pageshow', ({ persisted }) => {
      if (persisted && session.token) this.start()
    })
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
    const token = session.token
    if (this.state !== 'off' || !token) return
    this.state = 'opening'
    const early = window.pikarcEarly?.token === token ? window.pikarcEarly : undefined
    const shared = early?.shared
    if (early && shared) {
      delete early.shared
      this.#follow(shared, token)
      // What the page was told before this code was there.
      for (const { told, at } of early.told.splice(0)) this.#hear(told, token, at)
    } else {
      this.#join(token)
    }
    if (document.hidden) this.#onVisibility()
  }

  #join(token: string) {
    if (!this.#worker) return this.#goAlone(token)
    try {
      const shared = new SharedWorker(this.#worker, 'pikarc-events')
      shared.port.postMessage({ kind: 'join', url: base + '/v1/events', token } satisfies Asked)
      this.#follow(shared, token)
    } catch {
      this.#goAlone(token)
    }
  }

  #goAlone(token: string) {
    this.#worker = undefined
    const connection = new Connection(base + '/v1/events', token, (told) => this.#hear(told, token))
    this.#source = { retry: () => connection.retry(), leave: () => connection.close() }
  }

  stop() {
    clearTimeout(this.#hiding)
    this.#source?.leave()
    this.#source = null
    this.state = 'off'
  }

  #follow(shared: SharedWorker, token: string) {
    const { port } = shared
    const ask = (asked: Asked) => port.postMessage(asked)
    const source = {
      retry: () => ask({ kind: 'retry' }),
      leave: () => {
        ask({ kind: 'leave' })
        port.close()
      },
    }
    this.#source = source
    // Its code could not be read, or it may not run.
    shared.addEventListener('error', () => {
      if (this.#source === source) this.#goAlone(token)
    })
    port.addEventListener('message', ({ data, timeStamp }: MessageEvent<Told>) => {
      // When it came, not when it is looked at: boot.ts, which hears it first, may have asked by then.
      if (this.#source === source) this.#hear(data, token, timeStamp)
    })
    port.start()
  }

  #hear(told: Told, token: string, at = performance.now()) {
    if (told.kind === 'refused') return session.expire(token)
    if (told.kind === 'lost') return void (this.state = 'lost')
    if (told.kind === 'open') {
      this.state = 'open'
      // Only while a page opens: after a computer has slept, nobody knows how long ago something was read.
      this.#missedBefore(this.#wasOpen ? at : at - told.quiet)
      this.#wasOpen = true
      return
    }
    // Whoever takes what was asked for earlier may not have heard this.
    if (window.pikarcEarly) window.pikarcEarly.outdated = true
    if (told.event === 'missed') this.readAgain()
    const value = parseExact(told.data)
    for (const handlers of [...this.#handlers]) handlers[told.event as EventName]?.(value as never)
  }

  /** What is shown is whole no longer: all of it is read again. */
  readAgain() {
    this.#missedBefore(performance.now())
  }

  #missedBefore(at: number) {
    this.wholeSince = at
    for (const refetch of [...this.#refetchers]) refetch()
  }

  #retryNow() {
    if (this.state === 'lost' && !document.hidden) this.#source?.retry()
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
