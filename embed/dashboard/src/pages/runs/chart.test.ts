import { expect, test } from 'vitest'
import { chartOf, marksOf, placeInWords, placeOf, rangeOf, startOf } from './chart'

const at = (ms: number) => new Date(ms).toISOString()

test.each(['UTC', 'Europe/Berlin', 'Asia/Kathmandu', 'America/St_Johns'])(
  'places of %s begin where the server begins its pieces, over a change of the clocks',
  (zone) => {
    for (const minutes of [15, 60, 360, 1440, 10_080]) {
      const chart = chartOf('2026-10-20T03:10:00Z', '2026-11-07T12:00:00Z', minutes, zone)
      for (let place = 0; place < chart.places; place++) {
        const start = startOf(chart, place)
        expect(placeOf(chart, at(start))).toBe(place)
        expect(startOf(chart, place + 1)).toBeGreaterThan(start)
      }
      expect(placeOf(chart, '2026-11-07T11:59:59Z')).toBe(chart.places - 1)
    }
  },
)

test('a day is a date, whole in the address; an hour is told with its zone', () => {
  const days = chartOf('2026-10-01T00:00:00Z', '2026-11-30T00:00:00Z', 1440, 'Europe/Berlin')
  const day = placeOf(days, '2026-10-25T12:00:00Z') // of 25 hours
  expect(at(startOf(days, day))).toBe('2026-10-24T22:00:00.000Z')
  expect(rangeOf(days, day)).toEqual({ since: '2026-10-25', until: '2026-10-25' })
  expect(placeInWords(days, day)).toBe('Sun 25 Oct')
  const hours = chartOf('2026-11-29T00:00:00Z', '2026-11-30T12:00:00Z', 60, 'Asia/Kathmandu')
  const hour = placeOf(hours, '2026-11-30T08:15:00Z')
  expect(rangeOf(hours, hour)).toEqual({ since: '2026-11-30T08:15Z', until: '2026-11-30T09:15Z' })
  expect(placeInWords(hours, hour)).toBe('Mon 30 Nov, 14:00 to 15:00 UTC+5:45')
  const weeks = chartOf('2026-01-01T00:00:00Z', '2026-11-30T00:00:00Z', 10_080, 'UTC')
  expect(placeInWords(weeks, placeOf(weeks, '2026-11-25T00:00:00Z'))).toBe('Mon 23 Nov to Sun 29 Nov')
})

test('the hour that comes twice has pieces of its own', () => {
  for (const minutes of [1, 15, 60]) {
    const chart = chartOf('2026-10-24T22:00:00Z', '2026-10-25T03:00:00Z', minutes, 'Europe/Berlin')
    for (const first of ['2026-10-25T00:00:00.000Z', '2026-10-25T00:45:00.000Z', '2026-10-25T01:45:00.000Z'])
      if (minutes < 60) expect(at(startOf(chart, placeOf(chart, first)))).toBe(first)
    const apart = placeOf(chart, '2026-10-25T01:30:00Z') - placeOf(chart, '2026-10-25T00:30:00Z')
    expect(apart).toBe(60 / minutes)
  }
  const hours = chartOf('2026-10-24T22:00:00Z', '2026-10-25T03:00:00Z', 60, 'Europe/Berlin')
  expect(placeInWords(hours, placeOf(hours, '2026-10-25T00:30:00Z'))).toBe(
    'Sun 25 Oct, 02:00 UTC+2 to 02:00 UTC+1',
  )
  expect(placeInWords(hours, placeOf(hours, '2026-10-25T01:30:00Z'))).toBe('Sun 25 Oct, 02:00 to 03:00 UTC+1')
})

test('few runs make no walls, and there are as many words as there is room for', () => {
  const chart = chartOf('2026-11-30T10:00:00Z', '2026-11-30T10:02:30Z', 1, 'UTC')
  expect(chart.places).toBe(40)
  expect(placeOf(chart, '2026-11-30T10:02:00Z')).toBe(39)
  for (const [minutes, since] of [
    [1, '2026-11-30T09:00:00Z'],
    [15, '2026-11-29T10:00:00Z'],
    [120, '2026-11-23T10:00:00Z'],
    [1440, '2026-08-30T10:00:00Z'],
    [10_080, '2025-08-30T10:00:00Z'],
  ] as const) {
    const marks = marksOf(chartOf(since, '2026-11-30T10:00:00Z', minutes, 'UTC'), 1184)
    expect(marks.length).toBeGreaterThan(2)
    expect(marks.length).toBeLessThan(15)
  }
})
