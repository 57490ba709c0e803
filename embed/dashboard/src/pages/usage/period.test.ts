import { expect, test } from 'vitest'
import {
  around,
  beforeInWords,
  comparedWith,
  datesOf,
  daysInWords,
  inWords,
  moved,
  periodOf,
  titleOf,
} from './period'

const of = (text: string, today = '2026-11-29') => periodOf(new URLSearchParams(text), today, 'monday')

test('a period is what the address says, and the week that is now where it says nothing that makes sense', () => {
  const week = { kind: 'week', since: '2026-11-23', until: '2026-11-30' }
  for (const text of ['', 'period=year', 'period=custom', 'period=custom&since=2026-01-02&until=2026-01-01'])
    expect(of(text), text).toEqual(week)
  expect(of('at=2026-13-99')).toEqual(week)
  expect(of('period=custom&since=2020-01-01&until=2026-01-01')).toEqual(week)
  expect(of('period=day&at=2026-02-28')).toEqual({ kind: 'day', since: '2026-02-28', until: '2026-03-01' })
  expect(of('period=month&at=2026-12-31')).toEqual({
    kind: 'month',
    since: '2026-12-01',
    until: '2027-01-01',
  })
  expect(of('period=custom&since=2026-11-03&until=2026-11-03')).toEqual({
    kind: 'custom',
    since: '2026-11-03',
    until: '2026-11-04',
  })
})

test('a week begins on the day that the workspace says', () => {
  for (const [start, since] of [
    ['monday', '2026-11-23'],
    ['sunday', '2026-11-29'],
    ['saturday', '2026-11-28'],
  ] as const)
    expect(around('week', '2026-11-29', start).since).toBe(since)
})

test('it is compared with as many days as have come', () => {
  const week = of('', '2026-11-25')
  expect(comparedWith(week, 'before', '2026-11-25', 'monday')).toMatchObject({
    since: '2026-11-16',
    until: '2026-11-19',
  })
  expect(beforeInWords(week, 'before', '2026-11-25')).toBe('the same days of the week before')
  expect(inWords(week, '2026-11-25')).toBe('this week so far')
  expect(comparedWith(week, 'before', '2026-12-09', 'monday')).toMatchObject({
    since: '2026-11-16',
    until: '2026-11-23',
  })
  expect(comparedWith(week, 'year', '2026-12-09', 'monday')).toMatchObject({
    since: '2025-11-24',
    until: '2025-12-01',
  })
  const march = of('period=month&at=2026-03-31', '2026-03-31')
  expect(comparedWith(march, 'before', '2026-03-31', 'monday')).toMatchObject({
    since: '2026-02-01',
    until: '2026-03-01',
  })
  const thirtieth = of('period=month', '2026-03-30')
  expect(comparedWith(thirtieth, 'before', '2026-03-30', 'monday').until).toBe('2026-03-01')
})

test('arrows go from one period to the next', () => {
  expect(moved(of(''), -1, 'monday')).toEqual({ kind: 'week', since: '2026-11-16', until: '2026-11-23' })
  expect(moved(of('period=month'), 1, 'monday').since).toBe('2026-12-01')
  const custom = of('period=custom&since=2026-11-01&until=2026-11-10')
  expect(moved(custom, -1, 'monday')).toMatchObject({ since: '2026-10-22', until: '2026-11-01' })
})

test('titles are short and say the year', () => {
  expect(titleOf(of(''))).toBe('23–29 Nov 2026, week 48')
  expect(titleOf(of('period=month'))).toBe('November 2026')
  expect(titleOf(of('period=day'))).toBe('Sun 29 Nov 2026')
  expect(datesOf({ kind: 'week', since: '2026-12-28', until: '2027-01-04' })).toBe('28 Dec 2026 – 3 Jan 2027')
  expect(titleOf(around('week', '2027-01-01', 'monday'))).toContain('week 53')
})

test('a single day is said once', () => {
  expect(daysInWords(of('period=day'))).toBe('29 Nov')
  expect(daysInWords(of(''))).toBe('23 Nov to 29 Nov')
})
