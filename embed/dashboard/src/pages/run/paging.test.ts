import { describe, expect, test } from 'vitest'
import type { Item } from './outline'
import { sizesOf } from './paging'

const page = (size: number, limit: number, next: string | null) => ({
  items: new Array<Item>(size),
  limit,
  next,
})

describe('what is read again while a run goes on', () => {
  test('a short page is, whole', () => {
    expect(sizesOf(page(200, 200, 'x'), 7)).toEqual([200])
    expect(sizesOf(page(3, 200, null), -1)).toEqual([200])
  })

  test('of a long page only the part around its first open step stays to be read', () => {
    expect(sizesOf(page(5000, 5000, 'x'), 4100)).toEqual([4100, 200, 700])
    expect(sizesOf(page(5000, 5000, 'x'), 0)).toEqual([200, 4800])
    expect(sizesOf(page(5000, 5000, 'x'), 4950)).toEqual([4950, 50])
  })

  test('of the last page, its end', () => {
    expect(sizesOf(page(4800, 5000, null), -1)).toEqual([4700, 200])
    expect(sizesOf(page(4800, 5000, null), 10)).toEqual([10, 200])
    expect(sizesOf(page(20, 5000, null), -1)).toEqual([200])
  })
})
