import { aheadIn, zones } from './zone.svelte'

const SECOND = 1000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** How long something took: `840 ms`, `3.2 s`, `4 min 10 s`, `3 h 12 min`, `2 d 4 h`. */
export function duration(ms: number): string {
  if (ms < SECOND) return `${Math.round(ms)} ms`
  if (ms < MINUTE) return seconds(ms)
  if (ms < HOUR) return two(ms, MINUTE, 'min', SECOND, 's')
  if (ms < DAY) return two(ms, HOUR, 'h', MINUTE, 'min')
  return two(ms, DAY, 'd', HOUR, 'h')
}

function seconds(ms: number): string {
  const tenths = Math.floor(ms / 100) / 10
  return `${tenths < 10 ? tenths : Math.floor(tenths)} s`
}

function two(ms: number, large: number, largeName: string, small: number, smallName: string): string {
  const whole = Math.floor(ms / large)
  const rest = Math.floor((ms % large) / small)
  return rest ? `${whole} ${largeName} ${rest} ${smallName}` : `${whole} ${largeName}`
}

/** How long ago: `just now`, `12 s ago`, `4 min ago`, `3 h ago`, `2 d ago`. */
export function age(instant: string, now: number): string {
  const ms = Math.max(0, now - Date.parse(instant))
  if (ms < 2 * SECOND) return 'just now'
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)} s ago`
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)} min ago`
  if (ms < DAY) return `${Math.floor(ms / HOUR)} h ago`
  return `${Math.floor(ms / DAY)} d ago`
}

/** How long until then: `in 3 h 12 min`; `now` once it has come. */
export function until(instant: string, now: number): string {
  const ms = Date.parse(instant) - now
  if (ms <= 0) return 'now'
  return ms < MINUTE ? 'in less than a minute' : 'in ' + duration(ms - (ms % MINUTE))
}

// Written by hand: the formatters of the browser say the same, but each call of them costs half a millisecond.
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const pad = (value: number) => String(value).padStart(2, '0')

/** An instant as the clocks of the reader's zone show it: read its UTC fields. */
function shifted(instant: string | number): { at: Date; name: string } {
  const ms = typeof instant === 'number' ? instant : Date.parse(instant)
  const ahead = zones.ahead(ms)
  return { at: new Date(ms + ahead * MINUTE), name: zone(ahead) }
}

/** An instant in the reader's zone, which it names: `24 Nov 2026, 14:03:12 UTC+1`. */
export function local(instant: string): string {
  const { at, name } = shifted(instant)
  return `${day(at.toISOString())} ${at.getUTCFullYear()}, ${hms(at)} ${name}`
}

const hms = (at: Date) => at.toISOString().slice(11, 19)

/** A clock of the reader's zone, which it names: `14:03 UTC+1`. */
export function clockOf(instant: string | number): string {
  return `${hourOf(instant)} ${shifted(instant).name}`
}

/** The same where the zone stands beside it: `14:03`. */
export function hourOf(instant: string | number): string {
  return hms(shifted(instant).at).slice(0, 5)
}

const weekdays = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']

/** A moment of the present: `Sun 29 Nov, 23:12:08 UTC`. */
export function moment(ms: number): string {
  const { at, name } = shifted(ms)
  return `${weekdays[at.getUTCDay()]} ${day(at.toISOString())}, ${hms(at)} ${name}`
}

/** A date with its day of the week: `Sun 29 Nov`. */
export function dateName(date: string): string {
  return `${weekdays[new Date(date).getUTCDay()]} ${day(date)}`
}

/** A clock of a zone that the reader has not chosen, which it names: `14:03 UTC+1`. */
export function clockIn(ms: number, of: string): string {
  const ahead = aheadIn(of, ms)
  return `${hms(new Date(ms + ahead * MINUTE)).slice(0, 5)} ${zone(ahead)}`
}

/** A zone by its minutes ahead of UTC: `UTC+5:30`. The short names of zones mean several each. */
export function zone(ahead: number): string {
  if (ahead === 0) return 'UTC'
  const [hours, minutes] = [Math.floor(Math.abs(ahead) / 60), Math.abs(ahead) % 60]
  return `UTC${ahead < 0 ? '−' : '+'}${hours}${minutes ? ':' + pad(minutes) : ''}`
}

/** An instant in UTC, for titles: `2026-11-24 13:03:12 UTC`. */
export function utc(instant: string): string {
  return new Date(instant).toISOString().slice(0, 19).replace('T', ' ') + ' UTC'
}

/** `00:00 UTC`, as budgets say when they open again. */
export function utcClock(instant: string): string {
  return new Date(instant).toISOString().slice(11, 16) + ' UTC'
}

/** A UTC day: `24 Nov`. */
export function day(date: string): string {
  const at = new Date(date)
  return `${at.getUTCDate()} ${months[at.getUTCMonth()]}`
}

/** The day of an instant, which says its zone: `24 Nov 2026 UTC`. */
export function dayOf(instant: string): string {
  return `${day(instant)} ${new Date(instant).getUTCFullYear()} UTC`
}

/** The next midnight and the next first of a month in UTC, when budgets and months begin anew. */
export function resets(now: number): { day: string; month: string } {
  const at = new Date(now)
  const [y, m, d] = [at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()]
  return {
    day: new Date(Date.UTC(y, m, d + 1)).toISOString(),
    month: new Date(Date.UTC(y, m + 1, 1)).toISOString(),
  }
}
