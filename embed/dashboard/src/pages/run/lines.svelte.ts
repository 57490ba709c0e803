// What steps say, a line each: read for what is on the screen, and kept.
import { untrack } from 'svelte'
import { SvelteMap } from 'svelte/reactivity'
import { api, type Schema } from '../../api/client'
import type { Item } from './outline'

export type Line = Schema<'StepLine'>

/** One answer has so many. */
const MOST = 100
/** While a reader scrolls, nothing is asked for. */
const PAUSE = 60

export class Lines {
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

  stop() {
    clearTimeout(this.#timer)
    this.#abort.abort()
  }

  async #read(items: Item[]) {
    for (const { id, status } of items) this.#asked.set(id, status)
    try {
      const { items: lines } = await api.get('/v1/runs/{run_id}/lines', {
        path: { run_id: this.#id },
        query: { steps: items.map(({ id }) => id).join(',') },
        signal: this.#abort.signal,
      })
      untrack(() => lines.forEach((line) => this.#lines.set(line.step_id, line)))
    } catch {
      // The row says the rest; it is asked for again when it is shown again.
      for (const { id } of items) this.#asked.delete(id)
    }
  }
}
