// The periods of the Usage page: days, weeks, months and ranges of days of the workspace's zone, and what each is
// compared with.
import { day } from '../../format/time'

export type Kind = 'day' | 'week' | 'month' | 'custom'
/** Dates: from the first day to the one after the last. */
export type Period = { kind: Kind; since: string; until: string }
export type WeekStart = 'monday' | 'tuesday' | 'wednesday' | 'thursday' | 'friday' | 'saturday' | 'sunday'

const DAY = 86_400_000
const MOST = 365
const WEEKDAYS = ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday']
const MONTHS = [
  'January',
  'February',
  'March',
  'April',
  'May',
  'June',
  'July',
  'August',
  'September',
  'October',
  'November',
  'December',
]
const short = (date: string) =>
  WEEKDAYS[new Date(date).getUTCDay()]!.slice(0, 3).replace(/^./, (c) => c.toUpperCase())

export const isDate = (text: string | null): text is string =>
  text !== null && /^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(text))

export const dateOf = (ms: number) => new Date(ms).toISOString().slice(0, 10)
export const plus = (date: string, days: number) => dateOf(Date.parse(date) + days * DAY)
export const daysOf = ({ since, until }: Period) => Math.round((Date.parse(until) - Date.parse(since)) / DAY)

const firstOfMonth = (date: string, months = 0) => {
  const at = new Date(date)
  return dateOf(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + months, 1))
}

/** The day, week or month that a date is in. */
export function around(kind: Exclude<Kind, 'custom'>, date: string, weekStart: WeekStart): Period {
  if (kind === 'day') return { kind, since: date, until: plus(date, 1) }
  if (kind === 'month') return { kind, since: firstOfMonth(date), until: firstOfMonth(date, 1) }
  const back = (new Date(date).getUTCDay() - WEEKDAYS.indexOf(weekStart) + 7) % 7
  return { kind, since: plus(date, -back), until: plus(date, 7 - back) }
}

/** What the address asks for: the usual period that is now, unless it says otherwise. */
export function periodOf(
  query: URLSearchParams,
  today: string,
  weekStart: WeekStart,
  usual: Exclude<Kind, 'custom'> = 'week',
): Period {
  const [since, until] = [query.get('since'), query.get('until')]
  if (query.get('period') === 'custom' && isDate(since) && isDate(until) && since <= until) {
    const custom: Period = { kind: 'custom', since, until: plus(until, 1) }
    if (daysOf(custom) <= MOST) return custom
  }
  const kind = (['day', 'week', 'month'] as const).find((one) => one === query.get('period')) ?? usual
  const at = query.get('at')
  return around(kind, isDate(at) ? at : today, weekStart)
}

/** The period so many before or after. */
export function moved(period: Period, by: 1 | -1, weekStart: WeekStart): Period {
  const { kind, since, until } = period
  if (kind === 'custom') {
    const days = daysOf(period) * by
    return { kind, since: plus(since, days), until: plus(until, days) }
  }
  return around(kind, by > 0 ? until : plus(since, -1), weekStart)
}

/** The part of a period that has come, today included. */
export function soFar(period: Period, today: string): Period {
  const end = plus(today, 1)
  return period.until > end && period.since <= today ? { ...period, until: end } : period
}

/**
 * What a period is compared with: the one before, or the one a year ago. Of a period that is not over, as many days
 * are compared as have come.
 */
export function comparedWith(
  period: Period,
  against: 'before' | 'year',
  today: string,
  weekStart: WeekStart,
): Period {
  const come = soFar(period, today)
  if (against === 'year') {
    // 52 weeks, so that the same days of the week are compared.
    const days = period.kind === 'week' || period.kind === 'day' ? 364 : 0
    const back = (date: string) =>
      days ? plus(date, -days) : `${Number(date.slice(0, 4)) - 1}${date.slice(4).replace('-02-29', '-02-28')}`
    return { ...come, since: back(come.since), until: back(come.until) }
  }
  const before = moved(period, -1, weekStart)
  if (come.until === period.until) return before
  const until = plus(before.since, daysOf(come))
  return { ...before, until: until < before.until ? until : before.until }
}

/** `23–29 Nov 2026`, `30 Nov – 6 Dec 2026`. */
export function datesOf({ since, until }: Period): string {
  const last = plus(until, -1)
  const [year, from] = [last.slice(0, 4), since.slice(0, 4)]
  if (since === last) return `${short(since)} ${day(since)} ${year}`
  if (from !== year) return `${day(since)} ${from} – ${day(last)} ${year}`
  if (since.slice(0, 7) === last.slice(0, 7)) return `${Number(since.slice(8))}–${day(last)} ${year}`
  return `${day(since)} – ${day(last)} ${year}`
}

/** `23 Nov to 29 Nov`, `29 Nov`. */
export function daysInWords({ since, until }: Pick<Period, 'since' | 'until'>): string {
  const last = plus(until, -1)
  return since === last ? day(since) : `${day(since)} to ${day(last)}`
}

/** What stands between the arrows. */
export function titleOf(period: Period): string {
  if (period.kind === 'month') {
    return `${MONTHS[Number(period.since.slice(5, 7)) - 1]} ${period.since.slice(0, 4)}`
  }
  const dates = datesOf(period)
  return period.kind === 'week' && new Date(period.since).getUTCDay() === 1
    ? `${dates}, week ${weekNumber(period.since)}`
    : dates
}

// ISO 8601: the week that has the year's first Thursday is its first.
function weekNumber(monday: string): number {
  const thursday = new Date(Date.parse(monday) + 3 * DAY)
  return 1 + Math.floor((thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / (7 * DAY))
}

/** As a sentence names it: `this week`, `in the week of 16 Nov`. */
export function inWords(period: Period, today: string): string {
  const now = period.since <= today && today < period.until
  const name = {
    day: now ? 'today' : `on ${datesOf(period)}`,
    week: now ? 'this week' : `in the week of ${day(period.since)}`,
    month: now ? 'this month' : `in ${titleOf(period)}`,
    custom: `in ${daysOf(period)} ${daysOf(period) === 1 ? 'day' : 'days'}`,
  }[period.kind]
  return now && period.kind !== 'day' && period.until > plus(today, 1) ? name + ' so far' : name
}

/** As a sentence names what it is compared with: `the week before`. */
export function beforeInWords(period: Period, against: 'before' | 'year', today: string): string {
  const part = soFar(period, today).until === period.until ? '' : 'the same days of '
  const unit = period.kind === 'custom' ? `${daysOf(period)} days` : period.kind
  if (against === 'year') return period.kind === 'day' ? 'a year ago' : `${part}the ${unit} a year ago`
  return period.kind === 'day' ? 'the day before' : `${part}the ${unit} before`
}

/** The head of a column of it. */
export function columnOf(period: Period, today: string): string {
  const now = period.since <= today && today < period.until
  return period.kind === 'custom' || !now
    ? 'Spend'
    : { day: 'Today', week: 'This week', month: 'This month' }[period.kind]
}

/** `Mon 23`. */
export const weekdayOf = (date: string) => `${short(date)} ${Number(date.slice(8))}`
