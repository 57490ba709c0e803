// Where a piece of time stands in the chart of runs, and what it leads to.
import { clockIn, dateName } from '../../format/time'
import { aheadIn, dateIn, startOfDate } from '../../format/zone.svelte'

const MINUTE = 60_000
const DAY = 86_400_000
/** So many places a chart has at least: three bars of a new workspace are no walls. */
const LEAST = 40

export type Chart = {
  zone: string
  width: number
  first: number
  places: number
  /** Where the clocks are set by whole pieces, as by an hour, each piece is as long: so far ahead they all are. */
  ahead: number | null
}

/** The number of the piece that an instant is in, as the server cuts time: by the clocks of the zone, weeks by Mondays. */
const numberOf = (ms: number, { width, zone, ahead }: Pick<Chart, 'width' | 'zone' | 'ahead'>) =>
  Math.floor((ms + (ahead ?? aheadIn(zone, ms)) * MINUTE + (width % (7 * DAY) === 0 ? 3 * DAY : 0)) / width)

/** How far ahead of UTC the pieces of a time are numbered, if all can be of one length: as the server cuts them. */
function aheadOf(since: number, until: number, minutes: number, zone: string): number | null {
  if (minutes > 60) return null
  const last = aheadIn(zone, until)
  for (let at = since; at < until; at += DAY / 4) if ((aheadIn(zone, at) - last) % minutes !== 0) return null
  return last
}

export function chartOf(since: string, until: string, minutes: number, zone: string): Chart {
  const width = minutes * MINUTE
  const begin = Date.parse(since)
  const end = Math.max(begin, Date.parse(until) - 1)
  const ahead = aheadOf(begin, end, minutes, zone)
  const last = numberOf(end, { width, zone, ahead })
  const places = Math.max(LEAST, last - numberOf(begin, { width, zone, ahead }) + 1)
  return { zone, width, first: last - places + 1, places, ahead }
}

export const placeOf = (chart: Chart, at: string) => numberOf(Date.parse(at), chart) - chart.first

/** When a place begins; inverse of placeOf. */
export function startOf({ zone, width, first, ahead }: Chart, place: number): number {
  const local = (first + place) * width - (width % (7 * DAY) === 0 ? 3 * DAY : 0)
  if (ahead !== null) return local - ahead * MINUTE
  const date = new Date(local).toISOString().slice(0, 10)
  if (local % DAY === 0) return startOfDate(date, zone)
  // Where the clocks went back, the first of two times that they showed.
  const early = local - aheadIn(zone, local - DAY) * MINUTE
  if (early + aheadIn(zone, early) * MINUTE === local) return early
  return local - aheadIn(zone, local - aheadIn(zone, local) * MINUTE) * MINUTE
}

const instant = (ms: number) => new Date(ms).toISOString().slice(0, 16) + 'Z'

/** What of the address shows the runs of a place. Whole days are dates, the rest instants. */
export function rangeOf(chart: Chart, place: number): { since: string; until: string } {
  const [since, until] = [startOf(chart, place), startOf(chart, place + 1)]
  return chart.width % DAY === 0
    ? { since: dateIn(since, chart.zone), until: dateIn(until - 1, chart.zone) }
    : { since: instant(since), until: instant(until) }
}

/** `Mon 30 Nov`, `Mon 30 Nov to Sun 6 Dec`, `Mon 30 Nov, 14:00 UTC to 15:00 UTC`. */
export function placeInWords(chart: Chart, place: number): string {
  const { zone, width } = chart
  const [since, until] = [startOf(chart, place), startOf(chart, place + 1)]
  const date = dateName(dateIn(since, zone))
  if (width === DAY) return date
  if (width > DAY) return `${date} to ${dateName(dateIn(until - 1, zone))}`
  // In the hour that comes twice, each end says which of the two it is in.
  const [from, to] = [clockIn(since, zone).split(' '), clockIn(until, zone).split(' ')]
  return `${date}, ${from[1] === to[1] ? from[0] : from.join(' ')} to ${to.join(' ')}`
}

export type Mark = { place: number; word: string; range: { since: string; until: string } }

/** The words below the chart, as many as there is room for: days, or hours where there are few days. */
export function marksOf(chart: Chart, room: number): Mark[] {
  const { zone, width, places } = chart
  const span = width * places
  const days = span > 2 * DAY
  const most = Math.max(1, Math.floor(room / (days ? 84 : 112)))
  const lengths = days
    ? [1, 2, 7, 14, 28, 56, 112, 364].map((n) => n * DAY)
    : [5, 10, 15, 30, 60, 120, 180, 360, 720].map((n) => n * MINUTE)
  const step = lengths.find((length) => span / length <= most && length >= width) ?? lengths.at(-1)!
  const per = Math.max(1, Math.round(step / width))
  const marks: Mark[] = []
  for (let place = 0; place < places; place++) {
    if ((chart.first + place) % per !== 0) continue
    const [since, until] = [startOf(chart, place), startOf(chart, place + per)]
    marks.push({
      place,
      word: days ? dateName(dateIn(since, zone)) : clockIn(since, zone),
      range:
        days && per * width >= DAY
          ? { since: dateIn(since, zone), until: dateIn(until - 1, zone) }
          : { since: instant(since), until: instant(until) },
    })
  }
  return marks
}
