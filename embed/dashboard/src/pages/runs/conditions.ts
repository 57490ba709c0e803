// The filters that stand as chips in the search field, in words.
import { usd } from '../../format/money'
import { clockIn, dateName, duration } from '../../format/time'
import { dateIn, zones } from '../../format/zone.svelte'
import { isInstant, type RunFilters, spans } from '../../runs/filters'

export type Condition = { name: string; value: string; word: string; shown: string }

const NAMES = [
  'q',
  'user_id',
  'user_prefix',
  'model',
  'tool',
  'tag',
  'min_cost_usd',
  'min_duration_ms',
  'key',
]

export function conditionsOf(query: URLSearchParams): Condition[] {
  const named = NAMES.flatMap((name) =>
    query
      .getAll(name)
      .filter(Boolean)
      .map((value) => ({ name, value, ...words(name, value) })),
  )
  const [since, until] = [query.get('since'), query.get('until')]
  if (query.get('time') || !isInstant(since) || !isInstant(until)) return named
  return [{ name: RANGE, value: '', word: 'started', shown: rangeInWords(since, until) }, ...named]
}

/** Both ends of a time that is no whole days: a bar of a chart. */
const RANGE = 'since and until'

/** `23 Nov, 14:00 to 15:00 UTC+1`. */
export function rangeInWords(since: string, until: string): string {
  const zone = zones.workspace ?? 'UTC'
  const [from, to] = [Date.parse(since), Date.parse(until)]
  const [first, last] = [dateIn(from, zone), dateIn(to - 1, zone)]
  const begin = clockIn(from, zone).replace(/ .*/, '')
  const end = (first === last ? '' : dateName(last) + ', ') + clockIn(to, zone)
  return `${dateName(first)}, ${begin} to ${end}`
}

function words(name: string, value: string): { word: string; shown: string } {
  if (name === 'tag' && value.indexOf(':') > 0) {
    const at = value.indexOf(':')
    return { word: value.slice(0, at), shown: value.slice(at + 1) }
  }
  if (name === 'min_cost_usd')
    return { word: 'cost from', shown: /^[\d.]+$/.test(value) ? usd(Number(value)) : value }
  if (name === 'min_duration_ms') return { word: 'duration from', shown: duration(Number(value) || 0) }
  if (name === 'q') return { word: 'words', shown: value }
  if (name === 'key') return { word: 'API key', shown: value.slice(0, 8) }
  if (name === 'user_prefix') return { word: 'users', shown: value + '*' }
  return { word: name === 'user_id' ? 'user' : name, shown: value }
}

/** Which time the runs that are shown started in, with the zone that its days are of. */
export function timeInWords(
  query: URLSearchParams,
  { since, until }: RunFilters,
  zone: string,
  today: string,
): string {
  const [from, to] = [query.get('since'), query.get('until')]
  const span = spans.find(({ value }) => value === query.get('time'))
  if (span) return span.value === 'today' ? `Today, ${dateName(today)}, ${zone}` : span.label
  if (since && until && isInstant(from) && isInstant(to)) return rangeInWords(from, to)
  const day = (end: string | null) => (isInstant(end) ? clockIn(Date.parse(end), zone) : dateName(end!))
  if (since && until) return `${from === to ? day(from) : `${day(from)} to ${day(to)}`}, ${zone}`
  if (since) return `From ${day(from)}, ${zone}`
  return until ? `Until ${day(to)}, ${zone}` : 'All time'
}

/** The address's query without one condition, or with another value of it. */
export function without(query: URLSearchParams, name: string, value: string): string {
  const all = new URLSearchParams(query)
  if (name === RANGE) {
    all.delete('since')
    all.delete('until')
    return all.toString()
  }
  const rest = all.getAll(name).filter((one) => one !== value)
  all.delete(name)
  for (const one of rest) all.append(name, one)
  return all.toString()
}
