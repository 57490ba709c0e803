import { expect, test } from 'vitest'
import { Exact } from '../api/exact'
import {
  askedFields,
  briefOf,
  fieldsOf,
  leftOf,
  lookOf,
  type Review,
  toldOf,
  toldOfMany,
  verdictOf,
} from './words'

const review = {
  requested_at: '2026-11-30T10:00:00Z',
  expires_at: '2026-11-30T10:04:50Z',
  decided_at: null,
  decided_by: null,
  resolution: null,
} as Review
const by = (account: string, resolution: Review['resolution']) =>
  ({ ...review, resolution, decided_by: { account, channel: null } }) as Review

test('an input becomes fields that can be read, in its order', () => {
  const input = {
    amount: 180.5,
    order: { id: 'A-1', lines: [1, 2] },
    items: [{ a: 1 }],
    none: null,
    big: new Exact('1e400'),
  }
  expect(fieldsOf(input, ['amount', 'order.id']).map(({ name, text, asked }) => [name, text, asked])).toEqual(
    [
      ['amount', '180.5', true],
      ['order.id', 'A-1', true],
      ['order.lines', '1, 2', false],
      ['items', '[{"a":1}]', false],
      ['none', 'null', false],
      ['big', '1e400', false],
    ],
  )
})

test('a deep input ends in JSON, and so does an empty object', () => {
  expect(fieldsOf({ a: { b: { c: { d: 1 } } }, e: {} }).map(({ name, text }) => [name, text])).toEqual([
    ['a.b.c', '{"d":1}'],
    ['e', '{}'],
  ])
})

test.each([
  [null, []],
  ['!has(input.amount) || usd(input.amount) > usd(100)', ['amount']],
  ['input.?to.orValue("").endsWith("@x.com")', ['to']],
  ['input.order.total > 3 && tool == "x"', ['order.total']],
  ['myinput.amount > 1', []],
])('%s looks at %j', (when, names) => expect(askedFields(when)).toEqual(names))

test.each([
  [{ amount: 180, currency: 'USD', order: 'A-1' }, '180 USD'],
  [{ to: 'a@b.c', body: 'hi' }, 'to a@b.c, body hi'],
  [null, ''],
  [{ text: 'x'.repeat(99) }, 'text ' + 'x'.repeat(55) + '…'],
])('%j is in brief %s', (input, text) => expect(briefOf(input)).toBe(text))

test('what is left of the time is never below nothing', () => {
  expect(leftOf(review, Date.parse('2026-11-30T10:04:49.400Z'))).toBe(1000)
  expect(leftOf(review, Date.parse('2026-11-30T11:00:00Z'))).toBe(0)
})

test('each way a review can end is told by itself', () => {
  const all = ['approved', 'denied', 'expired', 'cancelled', 'superseded', 'bypassed', null] as const
  const words = all.map((resolution) => lookOf({ status: 'denied', resolution }).word)
  expect(new Set(words).size).toBe(all.length)
})

test('who came second hears who was first, and that nobody waits any more', () => {
  expect(toldOf(by('ana', 'approved'), 'approve', 'ana')).toBe('Approved. The agent goes on.')
  expect(toldOf(by('ana', 'approved'), 'approve', 'ben')).toContain('ana was first, and approved it')
  expect(toldOf(by('ana', 'denied'), 'approve', 'ana')).toContain('ana was first, and denied it')
  expect(toldOf({ ...review, resolution: 'expired' }, 'approve', 'ana')).toContain(
    'Nobody waits for it any more',
  )
  expect(toldOf({ ...review, resolution: 'bypassed' }, 'deny', 'ana')).toContain('did not wait')
  expect(toldOfMany([by('ana', 'approved'), by('ben', 'denied')], 'approve', 'ana')).toBe(
    '1 step approved. 1 had ended before, and stays as it was.',
  )
})

test('a row names who decided, and after how long', () => {
  const decided = (resolution: Review['resolution'], account: string | null) =>
    verdictOf({
      ...review,
      status: resolution === 'approved' ? 'approved' : 'denied',
      resolution,
      decided_at: '2026-11-30T10:00:41Z',
      decided_by: account ? { account, channel: null } : null,
    } as Review)
  expect(decided('approved', 'ana@example.com')).toBe('approved by ana@example.com after 41 s')
  expect(decided('denied', 'ben@example.com')).toBe('denied by ben@example.com after 41 s')
  expect(decided('expired', null)).toBe('expired, nobody decided after 41 s')
  expect(verdictOf({ ...review, status: 'pending' } as Review)).toBe('')
})
