// What could not be read, and no part of the page says so: the frame says it then, with "Try again".
import { SvelteSet } from 'svelte/reactivity'
import type { Problem } from '../api/problem'

/** Something that is read from the server, as far as its failure is concerned. */
export interface Reading {
  /** "The saved views", as in "The saved views could not be read." */
  readonly what: string
  readonly problem: Problem | null
  readonly busy: boolean
  /** Whether what was read before is still shown. */
  readonly known: boolean
  /** Whether a part of the page says that it failed. */
  readonly told: boolean
  refetch: () => unknown
}

class Unread {
  #all = new SvelteSet<Reading>()

  /** Says of it when it fails; returns a function that ends it. */
  watch(reading: Reading): () => void {
    this.#all.add(reading)
    return () => this.#all.delete(reading)
  }

  get all(): Reading[] {
    return [...this.#all].filter(({ problem, told }) => problem !== null && !told)
  }
}

export const unread = new Unread()
