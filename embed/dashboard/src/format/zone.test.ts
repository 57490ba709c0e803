import { afterEach, expect, test } from 'vitest'
import { clockOf, local, moment } from './time'
import { aheadIn, zones, dateIn, startOfDate } from './zone.svelte'

afterEach(() => zones.choose('mine'))

test.each([
  ['UTC', '2026-11-24T12:00:00Z', 0],
  ['Europe/Berlin', '2026-11-24T12:00:00Z', 60],
  ['Europe/Berlin', '2026-07-24T12:00:00Z', 120],
  // The hour after which clocks go back.
  ['Europe/Berlin', '2026-10-25T00:59:59Z', 120],
  ['Europe/Berlin', '2026-10-25T01:00:00Z', 60],
  ['Asia/Kathmandu', '2026-11-24T12:00:00Z', 345],
  ['America/St_Johns', '2026-11-24T12:00:00Z', -210],
  ['Nowhere/At_all', '2026-11-24T12:00:00Z', 0],
])('%s at %s is %d minutes ahead', (zone, at, ahead) => expect(aheadIn(zone, Date.parse(at))).toBe(ahead))

test('every time is told in the zone that is chosen, and names it', () => {
  const at = '2026-12-31T23:30:05Z'
  zones.choose('utc')
  expect(local(at)).toBe('31 Dec 2026, 23:30:05 UTC')
  zones.workspace = 'Asia/Kolkata'
  zones.choose('workspace')
  expect(local(at)).toBe('1 Jan 2027, 05:00:05 UTC+5:30')
  expect(clockOf(at)).toBe('05:00 UTC+5:30')
  expect(moment(Date.parse(at))).toBe('Fri 1 Jan, 05:00:05 UTC+5:30')
})

test('a date begins at the zone’s midnight, or where the clocks skip it', () => {
  const at = (date: string, zone: string) => new Date(startOfDate(date, zone)).toISOString()
  expect(at('2026-11-23', 'UTC')).toBe('2026-11-23T00:00:00.000Z')
  expect(at('2026-11-23', 'Asia/Kathmandu')).toBe('2026-11-22T18:15:00.000Z')
  expect(at('2027-03-14', 'America/New_York')).toBe('2027-03-14T05:00:00.000Z')
  expect(at('2027-03-15', 'America/New_York')).toBe('2027-03-15T04:00:00.000Z')
  expect(at('2027-11-08', 'America/New_York')).toBe('2027-11-08T05:00:00.000Z')
  expect(dateIn(Date.parse('2026-11-22T18:14:59Z'), 'Asia/Kathmandu')).toBe('2026-11-22')
  expect(dateIn(Date.parse('2026-11-22T18:15:00Z'), 'Asia/Kathmandu')).toBe('2026-11-23')
})
