import { expect, test } from 'vitest'
import type { Schema } from '../api/client'
import { denials, filtersOf, matches, total } from './filters'
import { merged, patched } from './merge'

const run = (
  id: string,
  started_at: string,
  more: Partial<Schema<'RunSummary'>> = {},
): Schema<'RunSummary'> => ({
  id,
  user_id: 'u',
  title: null,
  status: 'RUNNING',
  deny_reason: null,
  started_at,
  ended_at: null,
  ended_reason: null,
  duration_ms: null,
  step_count: 0,
  blocked_step_count: 0,
  prompt_tokens: 0,
  completion_tokens: 0,
  total_usd: 0,
  unpriced_tokens: 0,
  calls_without_usage: 0,
  last_call_at: started_at,
  ...more,
})
const a = run('a', '2026-11-23T10:00:00Z')
const b = run('b', '2026-11-23T10:00:01Z')
const c = run('c', '2026-11-23T10:00:01Z')

test('runs are merged newest first, each once', () => {
  expect(merged([c, a], [b, a]).map(({ id }) => id)).toEqual(['c', 'b', 'a'])
})

test('news stays in its place, and nothing new is the same list', () => {
  const list = [c, b, a]
  expect(patched(list, [{ ...b, step_count: 3 }])[1]!.step_count).toBe(3)
  expect(patched(list, [run('z', a.started_at)])).toBe(list)
})

test('filters come from the address, and nonsense is left out', () => {
  const now = Date.parse('2026-11-23T20:48:00Z')
  const filters = filtersOf(new URLSearchParams('status=RUNNING&reason=nope&time=today&user_id=a%2Fb'), now)
  expect(filters).toEqual({ status: 'RUNNING', since: '2026-11-23T00:00:00.000Z', user_id: 'a/b' })
})

test('the key of a link must be an id', () => {
  const id = '01a1f8d3-ea00-7c31-9f0a-6a1f0b8e4d53'
  expect(filtersOf(new URLSearchParams({ key: id }), 0)).toEqual({ key: id })
  expect(filtersOf(new URLSearchParams({ key: 'mine' }), 0)).toEqual({})
})

test('an event belongs in a list only if all filters match', () => {
  expect(matches(a, {})).toBe(true)
  expect(matches(a, { status: 'BLOCKED' })).toBe(false)
  expect(matches(a, { user_id: 'other' })).toBe(false)
  expect(matches(a, { reason: 'USER_BLOCKED' })).toBe(false)
  expect(matches(a, { since: '2026-11-23T10:00:00.001Z' })).toBe(false)
  expect(matches(a, { until: '2026-11-23T10:00:00.000Z' })).toBe(false)
  expect(matches(a, { since: '2026-11-23T10:00:00.000Z', user_id: 'u', status: 'RUNNING' })).toBe(true)
})

test('denials are those of the start and of the steps', () => {
  const born = run('x', a.started_at, { status: 'BLOCKED', deny_reason: 'USER_BLOCKED' })
  const stopped = run('y', a.started_at, {
    status: 'BLOCKED',
    ended_reason: 'CLIENT',
    blocked_step_count: 3,
  })
  expect([a, born, stopped].map(denials)).toEqual([0, 1, 3])
  expect(total([born, stopped])).toBe('4 denials in 2 runs')
  expect(matches(a, { denied: true })).toBe(false)
  expect(matches(stopped, { denied: true })).toBe(true)
  expect(filtersOf(new URLSearchParams('denied=true'), 0)).toEqual({ denied: true })
})
