import { expect, test } from 'vitest'
import type { Review } from '../../reviews/words'
import { besides, merged } from './merge'

const review = (id: string, status: Review['status'] = 'pending') =>
  ({ id, status, requested_at: `2026-11-30T10:00:0${id}Z` }) as Review
const ids = (list: Review[]) =>
  list.map(({ id, status }) => (status === 'pending' ? id : `(${id})`)).join(' ')
const nobody = () => false

test('the first list is oldest first, whatever order it comes in', () => {
  expect(ids(merged([], [review('3'), review('1'), review('2')], nobody))).toBe('1 2 3')
})

test('new ones come at the end, and those before keep their places', () => {
  const before = [review('2'), review('5')]
  expect(ids(merged(before, [review('7'), review('5'), review('2'), review('3')], nobody))).toBe('2 5 3 7')
})

test('what was decided stays while it is held, and leaves then', () => {
  const before = [review('1'), review('2'), review('3')]
  const now = [review('3'), review('1', 'approved'), review('2', 'denied')]
  expect(ids(merged(before, now, ({ id }) => id === '1'))).toBe('(1) 3')
  expect(ids(merged(before, now, () => true))).toBe('(1) (2) 3')
})

test('next and previous end at the ends', () => {
  const list = [review('1'), review('2')]
  expect(besides(list, '1', 1)?.id).toBe('2')
  expect(besides(list, '2', 1)).toBeUndefined()
  expect(besides(list, null, 1)?.id).toBe('1')
  expect(besides(list, 'gone', -1)?.id).toBe('2')
})
