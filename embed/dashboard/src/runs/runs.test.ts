import { expect, test } from 'vitest'
import type { Schema } from '../api/client'
import { zones } from '../format/zone.svelte'
import { denials, filtersOf, matches, total } from './filters'
import { byDay, dayInWords, sumInWords, sumsByDay } from './days'
import { merged, patched } from './merge'

const run = (
  id: string,
  started_at: string,
  more: Partial<Schema<'RunSummary'>> = {},
): Schema<'RunSummary'> => ({
  id,
  user_id: 'u',
  title: null,
  agent: null,
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

test('today and dates are those of the workspace’s zone, an hour is two instants', () => {
  zones.workspace = 'Asia/Kathmandu' // where a day begins at 18:15 UTC
  const now = Date.parse('2026-11-23T20:48:00Z')
  const of = (text: string) => filtersOf(new URLSearchParams(text), now)
  expect(of('time=today')).toEqual({ since: '2026-11-23T18:15:00.000Z' })
  expect(of('since=2026-11-23&until=2026-11-23')).toEqual({
    since: '2026-11-22T18:15:00.000Z',
    until: '2026-11-23T18:15:00.000Z',
  })
  expect(of('since=2026-11-23T08:15Z&until=2026-11-23T09:15Z')).toEqual({
    since: '2026-11-23T08:15:00.000Z',
    until: '2026-11-23T09:15:00.000Z',
  })
  expect(of('since=2026-11-23T08:15&until=2026-11-23T99:15Z')).toEqual({})
  zones.workspace = null
})

test('a list is parted by the zone’s dates, each with its sums', () => {
  const [early, late] = [run('1', '2026-11-23T18:14:00Z'), run('2', '2026-11-23T18:16:00Z')]
  expect(byDay([late, early], 'Asia/Kathmandu').map(({ key }) => key)).toEqual([
    '2026-11-24',
    '2',
    '2026-11-23',
    '1',
  ])
  const piece = (since: string, total_usd: number, denied_run_count = 0) => ({
    since,
    run_count: 1,
    total_usd,
    denied_run_count,
    unpriced_tokens: 0,
  })
  const totals = {
    bucket_minutes: 60,
    at_least: false,
    since: '2026-11-23T10:00:00Z',
    by_time: [
      piece('2026-11-23T10:15:00Z', 0.1),
      piece('2026-11-23T17:15:00Z', 0.2, 1),
      piece('2026-11-23T18:15:00Z', 1),
    ],
  } as Schema<'RunTotals'>
  const sums = sumsByDay(totals, 'Asia/Kathmandu')
  expect([...sums].map(([date, sum]) => `${date}: ${sumInWords(sum)}`)).toEqual([
    '2026-11-23: 2 runs, $0.30, 1 denied',
    '2026-11-24: 1 run, $1.00',
  ])
  expect([...sumsByDay({ ...totals, at_least: true }, 'Asia/Kathmandu').keys()]).toEqual(['2026-11-24'])
  expect(sumsByDay({ ...totals, bucket_minutes: 2880 }, 'UTC').size).toBe(0)
  expect(dayInWords('2026-11-29', '2026-11-29')).toBe('Today, Sun 29 Nov')
  expect(dayInWords('2025-11-29', '2026-11-29')).toBe('Sat 29 Nov 2025')
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
