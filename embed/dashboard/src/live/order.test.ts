import { expect, test } from 'vitest'
import { keepOrder, sameOrder } from './order'

type Row = { id: string; usd: number }
const id = (row: Row) => row.id
const rows = (text: string): Row[] =>
  text.split(' ').map((part) => ({ id: part[0]!, usd: Number(part.slice(1)) }))

test.each([
  ['a3 b2', 'b5 a4', 'a4 b5', 'places stay, figures change'],
  ['a3 b2', 'c9 a3', 'a3 b2 c9', 'a row that left stays as it was, a new one follows'],
  ['a3', 'a3 b1', 'a3 b1', 'new rows follow'],
])('%s read anew as %s shows %s: %s', (shown, fresh, want) => {
  expect(keepOrder(rows(shown), rows(fresh), id)).toEqual(rows(want))
})

test('the same order is told from another one', () => {
  expect(sameOrder(rows('a1 b1'), rows('a2 b2'), id)).toBe(true)
  expect(sameOrder(rows('a1 b1'), rows('b1 a1'), id)).toBe(false)
  expect(sameOrder(rows('a1 b1'), rows('a1'), id)).toBe(false)
})
