// What this browser remembers. Where storage is refused (a locked-down browser), it lasts as long as the page.
import { base } from './base'

const memory = new Map<string, string>()

/** A name of this server alone: others may be below other paths of the same origin, which share the storage. */
export const inThisServer = (key: string) => key + base

export function recall(key: string): string | null {
  try {
    return localStorage.getItem(key)
  } catch {
    return memory.get(key) ?? null
  }
}

export function keep(key: string, value: string | null) {
  try {
    if (value === null) localStorage.removeItem(key)
    else localStorage.setItem(key, value)
  } catch {
    if (value === null) memory.delete(key)
    else memory.set(key, value)
  }
}
