// The pages in which the steps of a run are read, and read again.
import type { Item } from './outline'

export type Page = { cursor: string | undefined; limit: number; items: Item[]; next: string | null }

/** How many steps are read again around one that may still change, and at the end of a run that goes on. */
export const NEAR = 200

/**
 * In which pages a page is read again: in one, unless it is long. Then what comes before its first open step, or before
 * its end, is a page of its own, and is not read again any more.
 */
export function sizesOf(page: Pick<Page, 'limit' | 'items' | 'next'>, open: number): number[] {
  const size = page.items.length
  if (page.limit <= NEAR) return [page.limit]
  const calm = open < 0 ? Math.max(0, size - NEAR / 2) : open
  const rest = page.next === null ? 0 : size - calm - NEAR
  const near = page.next === null ? NEAR : Math.min(NEAR, size - calm)
  return [calm, near, rest].filter((limit) => limit > 0)
}
