import { describe, expect, test } from 'vitest'
import { Exact } from '../api/exact'
import { bytes, count, plural, tokenFormOf, tokens, tokensInColumn } from './count'
import { decimalsOf, exactUsd, perMillion, perToken, share, shift, usd, usdInColumn } from './money'
import { age, day, dayOf, duration, local, resets, until, utc, utcClock, zone } from './time'

describe('usd', () => {
  test.each([
    [0, '$0.00'],
    [0.00225, '$0.00225'],
    [0.5, '$0.50'],
    [0.1, '$0.10'],
    [0.000000001, '$0.000000001'],
    [2.5e-7, '$0.00000025'],
    [0.999999999, '$0.999999999'],
    [1, '$1.00'],
    [1.005, '$1.01'],
    [25.04, '$25.04'],
    [25.035, '$25.04'],
    [25.034999999, '$25.03'],
    [1234567.891, '$1,234,567.89'],
    [new Exact('1000000000.123456789'), '$1,000,000,000.12'],
  ])('%s is %s', (value, text) => expect(usd(value)).toBe(text))

  test('is never $0.00 for what is not zero', () => {
    for (let digits = 1; digits <= 9; digits++) {
      for (const first of [1, 4, 5, 9]) expect(usd(Number(`${first}e-${digits}`))).not.toBe('$0.00')
    }
  })
  test('keeps all digits where asked', () => expect(exactUsd(25.043218)).toBe('$25.043218'))
})

describe('prices', () => {
  test('a token', () => expect(perToken(0.0000025)).toBe('$0.0000025'))
  test('a million tokens', () => {
    expect(perMillion(0.0000025)).toBe('$2.50')
    expect(perMillion(0.000000000001)).toBe('$0.000001')
    expect(perMillion(1)).toBe('$1,000,000.00')
  })
  test('the point moves both ways without loss', () => {
    expect(shift('2.5', -6)).toBe('0.0000025')
    expect(shift('0.0000025', 6)).toBe('2.5')
    expect(shift('1234567', -6)).toBe('1.234567')
    expect(shift('0', -6)).toBe('0')
  })
})

test('the share of a limit', () => {
  expect(share(20, 25)).toBe(0.8)
  expect(share(25.04, 25)).toBeGreaterThan(1)
  expect(share(0, 0)).toBe(1)
})

test.each([
  [[], 12480, '12,480'],
  [[99_999], 0, '0'],
  [[99_999], 99_999, '99,999'],
  [[5_210_000], 5_210_000, '5.21 M'],
  [[5_210_000], 380_000, '0.38 M'],
  [[5_210_000], 12, '<0.01 M'],
  [[5_210_000], 0, '0'],
  [[42_700_000], 400_000, '0.4 M'],
  [[980_000], 980_000, '980 k'],
  [[980_000], 1_400, '1 k'],
  [[980_000], 999, '<1 k'],
  [[1_294_000_000], 30_000_000, '0.03 B'],
])('in a column whose largest is %j, %d tokens are %s', (largest, value, words) =>
  expect(tokensInColumn(value, tokenFormOf(largest))).toBe(words),
)

test('tokens', () => {
  expect(tokens(0)).toBe('0')
  expect(tokens(12480)).toBe('12,480')
  expect(tokens(99999)).toBe('99,999')
  expect(tokens(100000)).toBe('100 k')
  expect(tokens(1234567)).toBe('1.2 M')
  expect(tokens(999999)).toBe('1 M')
  expect(tokens(3.21e9)).toBe('3.2 B')
})

test('counts', () => {
  expect(count(1234567)).toBe('1,234,567')
  expect(plural(1, 'run')).toBe('1 run')
  expect(plural(0, 'run')).toBe('0 runs')
  expect(bytes(48 * 1024)).toBe('48 KB')
})

test('durations', () => {
  expect(duration(840)).toBe('840 ms')
  expect(duration(3200)).toBe('3.2 s')
  expect(duration(59_999)).toBe('59 s')
  expect(duration(250_000)).toBe('4 min 10 s')
  expect(duration(240_000)).toBe('4 min')
  expect(duration(11_520_000)).toBe('3 h 12 min')
})

test('ages and instants', () => {
  const now = Date.parse('2026-11-23T20:48:00Z')
  expect(age('2026-11-23T20:47:48Z', now)).toBe('12 s ago')
  expect(age('2026-11-23T20:48:05Z', now)).toBe('just now')
  expect(age('2026-11-20T20:48:00Z', now)).toBe('3 d ago')
  expect(until('2026-11-24T00:00:00.000Z', now)).toBe('in 3 h 12 min')
  expect(until('2026-11-23T20:00:00Z', now)).toBe('now')
  expect(utc('2026-11-23T20:47:48.123Z')).toBe('2026-11-23 20:47:48 UTC')
  expect(utcClock('2026-11-24T00:00:00.000Z')).toBe('00:00 UTC')
})

test('instants and days are as British English writes them, in the reader’s zone', () => {
  for (let hour = 0; hour < 24 * 400; hour += 61) {
    const at = new Date(Date.UTC(2026, 0, 1, hour, 5, 9))
    const iso = at.toISOString()
    // "Sept" is the one month that the browser's own words write in four letters.
    const written = (options: Intl.DateTimeFormatOptions) =>
      at.toLocaleString('en-GB', options).replace('Sept', 'Sep')
    expect(dayOf(iso)).toBe(written({ dateStyle: 'medium', timeZone: 'UTC' }) + ' UTC')
    expect(local(iso)).toMatch(written({ dateStyle: 'medium', timeStyle: 'medium' }) + ' UTC')
    expect(day(iso.slice(0, 10))).toBe(written({ day: 'numeric', month: 'short', timeZone: 'UTC' }))
  }
})

test.each([
  [0, 'UTC'],
  [60, 'UTC+1'],
  [330, 'UTC+5:30'],
  [-210, 'UTC−3:30'],
  [-720, 'UTC−12'],
])('a zone %s minutes ahead is named %s', (ahead, name) => expect(zone(ahead)).toBe(name))

test('days and months end in UTC, over the end of a year too', () => {
  expect(resets(Date.parse('2026-12-31T23:59:59.999Z'))).toEqual({
    day: '2027-01-01T00:00:00.000Z',
    month: '2027-01-01T00:00:00.000Z',
  })
  expect(resets(Date.parse('2026-02-28T00:00:00Z')).month).toBe('2026-03-01T00:00:00.000Z')
})

describe('a column of amounts has one form', () => {
  test.each([
    [[], 4],
    [[0.99, 0.1], 4],
    [[0.99, 1], 2],
    [[-3, 0.1], 2],
  ])('%j has %d decimals', (column, decimals) => expect(decimalsOf(column)).toBe(decimals))

  test.each([
    [1234.565, 2, '$1,234.57'],
    [0.31, 2, '$0.31'],
    [0.009999, 2, '<$0.01'],
    [0.01, 2, '$0.01'],
    [0, 2, '$0.00'],
    [-0.001, 2, '>-$0.01'],
    [0.0087, 4, '$0.0087'],
    [0.99995, 4, '$1.0000'],
    [0.00001, 4, '<$0.0001'],
    [0, 4, '$0.0000'],
  ] as const)('%d with %d decimals is %s', (value, decimals, text) =>
    expect(usdInColumn(value, decimals)).toBe(text),
  )
})
