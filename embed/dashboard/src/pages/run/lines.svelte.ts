// What steps say, a line each: read for what is on the screen, and kept.
import { untrack } from 'svelte'
import { SvelteMap } from 'svelte/reactivity'
import { api, Problem, type Schema } from '../../api/client'
import { type Reading, unread } from '../../live/unread.svelte'
import type { Item } from './outline'

export type Line = Schema<'StepLine'>

/** One answer has so many. */
const MOST = 100
/** While a reader scrolls, nothing is asked for. */
const PAUSE = 60

export class Lines implements Reading {
  readonly what = 'What the steps say'
  readonly told = false
  problem: Problem | null = $state.raw(null)
  busy = $state(false)
  #failed: Item[] = []
  #unwatch = unread.watch(this)
  #id: string
  #lines = new SvelteMap<string, Line | null>()
  /** The status a step had when it was asked for: its output comes later. */
  #asked = new Map<string, string>()
  #timer: ReturnType<typeof setTimeout> | undefined
  #abort = new AbortController()

  constructor(id: string) {
    this.#id = id
  }

  get(id: string): Line | null {
    return this.#lines.get(id) ?? null
  }

  /** Reads the lines of some steps that are shown, unless they are known as they stand now. */
  want(items: Item[]) {
    clearTimeout(this.#timer)
    const open = items.filter(({ id, status }) => this.#asked.get(id) !== status).slice(0, MOST)
    if (open.length) this.#timer = setTimeout(() => void this.#read(open), this.#asked.size ? PAUSE : 0)
  }

  get known(): boolean {
    return false
  }

  refetch = () => this.#read(this.#failed)

  stop() {
    clearTimeout(this.#timer)
    this.#abort.abort()
    this.#unwatch()
  }

  async #read(items: Item[]) {
    for (const { id, status } of items) this.#asked.set(id, status)
    this.busy = true
    try {
      const { items: lines } = await api.get('/v1/runs/{run_id}/lines', {
        path: { run_id: this.#id },
        query: { steps: items.map(({ id }) => id).join(',') },
        signal: this.#abort.signal,
      })
      untrack(() => lines.forEach((line) => this.#lines.set(line.step_id, line)))
      this.problem = null
    } catch (error) {
      if (this.#abort.signal.aborted) return
      // The row says the rest; it is asked for again when it is shown again.
      for (const { id } of items) this.#asked.delete(id)
      this.#failed = items
      this.problem = error instanceof Problem ? error : new Problem(0, String(error))
    }
    this.busy = false
  }
}
