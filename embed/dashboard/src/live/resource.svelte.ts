// Something read from the server, with its four states: loading, failed, ready (and of those, empty is the page's
// to tell). What is shown stays while it is read again.
import { untrack } from 'svelte'
import { asking } from '../api/early'
import { Problem } from '../api/problem'
import { stream } from './stream.svelte'
import { type Reading, unread } from './unread.svelte'

export class Resource<T> implements Reading {
  readonly what: string
  value: T | undefined = $state.raw()
  /** Why the latest try failed; the value before it may still be there. */
  problem: Problem | null = $state.raw(null)
  busy = $state(false)

  #load: (signal: AbortSignal) => Promise<T>
  #abort: AbortController | null = null
  #began = 0
  #over = false
  /** Whether something else is asked for than what was read. */
  #other = false
  #tellers = $state(0)
  #followed: boolean

  /** `followed`: the stream says when it changes, so a gap in the stream makes it old. */
  constructor(load: (signal: AbortSignal) => Promise<T>, { what = '', followed = true } = {}) {
    this.#load = load
    this.what = what
    this.#followed = followed
  }

  get known(): boolean {
    return this.value !== undefined
  }

  get told(): boolean {
    return this.#tellers > 0
  }

  /** A part of the page says that it failed, until the function is called that is returned. */
  tell(): () => void {
    untrack(() => this.#tellers++)
    return () => void untrack(() => this.#tellers--)
  }

  get state(): 'loading' | 'failed' | 'ready' {
    if (this.value !== undefined) return 'ready'
    return this.problem && !this.busy ? 'failed' : 'loading'
  }

  /** Reads it for the first time, or because what it depends on has changed: what is known answers another question. */
  ask() {
    this.#other = true
    void this.refetch()
  }

  /** Reads it (again). A call while one is under way replaces it. */
  refetch = async (): Promise<void> => {
    // A timer may call after the component has gone, and what the loader depends on with it.
    if (this.#over) return
    this.#abort?.abort()
    const abort = new AbortController()
    this.#abort = abort
    // The loader is called here, so that an effect sees what it depends on.
    const [pending, began] = asking(() => this.#load(abort.signal))
    this.#began = began
    untrack(() => (this.busy = true))
    try {
      const value = await pending
      if (abort.signal.aborted) return
      this.value = value
      this.problem = null
      this.#other = false
    } catch (error) {
      if (abort.signal.aborted) return
      if (this.#other) this.value = undefined
      this.problem = error instanceof Problem ? error : new Problem(0, String(error))
    }
    this.busy = false
    this.refetchAfterGap()
  }

  /** Reads it again if events may have been missed since it was asked for. */
  refetchAfterGap = () => {
    if (!this.#followed || this.#began === 0 || this.#began >= stream.wholeSince) return
    // While a page opens, the stream comes between: what is on its way is shown first, then read again.
    if (this.busy && this.value === undefined) return
    void this.refetch()
  }

  /** Puts in what is known from elsewhere: an event, or the answer to a change. */
  set(value: T) {
    this.#abort?.abort()
    this.busy = false
    this.value = value
    this.problem = null
    this.#other = false
  }

  /** Forgets it for good: nothing reads it any more. */
  end() {
    this.drop()
    this.#over = true
  }

  drop() {
    this.#abort?.abort()
    this.value = undefined
    this.problem = null
    this.busy = false
    this.#began = 0
  }
}

/**
 * A resource of a component: read when the component is shown, again when what the loader depends on changes, and
 * again when the stream of events had a gap. Where it fails and is not drawn by <Loaded>, the frame says so: `what`
 * names it.
 */
export function resource<T>(
  load: (signal: AbortSignal) => Promise<T>,
  what = 'Part of this page',
): Resource<T> {
  const made = new Resource(load, { what })
  $effect(() => made.ask())
  $effect(() => unread.watch(made))
  $effect(() => {
    const end = stream.onGap(made.refetchAfterGap)
    return () => {
      end()
      made.end()
    }
  })
  return made
}

/** Runs a function at most once in so many milliseconds, the last call included. */
export function atMostEvery(ms: number, run: () => void): () => void {
  let last = -Infinity
  let timer: ReturnType<typeof setTimeout> | undefined
  return () => {
    if (timer !== undefined) return
    const wait = last + ms - performance.now()
    timer = setTimeout(
      () => {
        timer = undefined
        last = performance.now()
        run()
      },
      Math.max(0, wait),
    )
  }
}
