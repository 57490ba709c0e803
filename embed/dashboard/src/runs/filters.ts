// What of the runs one wants to see, as the address says it.
import { dateIn, startOfDate, zones } from '../format/zone.svelte'
import type { Schema } from '../api/client'
import { plural } from '../format/count'
import { type DenyReason, reasons } from '../format/reasons'

type Run = Schema<'RunSummary'>
type Status = Schema<'RunStatus'>

export type RunFilters = {
  status?: Status
  user_id?: string
  /** How the users' ids begin. */
  user_prefix?: string
  /** Runs only that some rule objected to. */
  denied?: true
  reason?: DenyReason
  /** The id of the API key that started them, which no run of a list or an event says. */
  key?: string
  since?: string
  until?: string
  /** Words of title, user and errors, or the beginning of an id. */
  q?: string
  model?: string[]
  tool?: string[]
  /** As `key:value`. */
  tag?: string[]
  min_cost_usd?: string
  min_duration_ms?: number
}

export type RunOrder = 'newest' | 'oldest' | 'cost' | 'duration' | 'steps' | 'tokens'
const orders: RunOrder[] = ['oldest', 'cost', 'duration', 'steps', 'tokens']

/** The order that the address asks for. */
export function orderOf(query: URLSearchParams): RunOrder {
  return orders.find((order) => order === query.get('sort')) ?? 'newest'
}

export const statuses: { value: Status; label: string }[] = [
  { value: 'RUNNING', label: 'Running' },
  { value: 'COMPLETED', label: 'Completed' },
  { value: 'FAILED', label: 'Failed' },
  { value: 'BLOCKED', label: 'Denied' },
]

const HOUR = 3_600_000
const zone = () => zones.workspace ?? 'UTC'
export const spans: { value: string; label: string; since: (now: number) => number }[] = [
  { value: '1h', label: 'Last hour', since: (now) => now - HOUR },
  { value: 'today', label: 'Today', since: (now) => startOfDate(dateIn(now, zone()), zone()) },
  { value: '24h', label: 'Last 24 hours', since: (now) => now - 24 * HOUR },
  { value: '7d', label: 'Last 7 days', since: (now) => now - 7 * 24 * HOUR },
  { value: '30d', label: 'Last 30 days', since: (now) => now - 30 * 24 * HOUR },
]

/** The parameters of the address that say which runs. */
export const names = [
  'q',
  'status',
  'denied',
  'reason',
  'time',
  'since',
  'until',
  'user_id',
  'user_prefix',
  'key',
  'model',
  'tool',
  'tag',
  'min_cost_usd',
  'min_duration_ms',
]

/** As much of a parameter as the server takes. */
const MOST = 10
const DAY = /^\d{4}-\d\d-\d\d$/
const MINUTE = /^\d{4}-\d\d-\d\dT\d\d:\d\dZ$/

/** Whether an end of a range is an instant, to the minute: a bar of a chart by hours leads to one. */
export const isInstant = (text: string | null): text is string =>
  text !== null && MINUTE.test(text) && !Number.isNaN(Date.parse(text))

// Dates are those of the workspace's zone, as on the pages of usage that lead here.
const endOf = (text: string | null, days: number) => {
  if (isInstant(text)) return new Date(text).toISOString()
  const at = text && DAY.test(text) ? Date.parse(text) + days * 24 * HOUR : NaN
  if (Number.isNaN(at)) return undefined
  const date = new Date(at).toISOString().slice(0, 10)
  return new Date(startOfDate(date, zone())).toISOString()
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** Values of the address that mean nothing are left out, so that a mistyped link still shows runs. */
export function filtersOf(query: URLSearchParams, now: number): RunFilters {
  const filters: RunFilters = {}
  const status = statuses.find(({ value }) => value === query.get('status'))
  const reason = reasons.find(({ code }) => code === query.get('reason'))
  const span = spans.find(({ value }) => value === query.get('time'))
  const user = query.get('user_id')
  const prefix = query.get('user_prefix')
  const key = query.get('key')
  if (status) filters.status = status.value
  if (query.get('denied') === 'true') filters.denied = true
  if (reason) filters.reason = reason.code
  if (span) filters.since = new Date(span.since(now)).toISOString()
  if (user) filters.user_id = user
  if (prefix) filters.user_prefix = prefix
  if (key && UUID.test(key)) filters.key = key
  const [since, until] = [endOf(query.get('since'), 0), endOf(query.get('until'), 1)]
  if (since && !span) filters.since = since
  if (until && !span) filters.until = until
  const q = query.get('q')?.trim()
  if (q) filters.q = q.slice(0, 200)
  for (const name of ['model', 'tool', 'tag'] as const) {
    const all = query.getAll(name).filter((value) => value && (name !== 'tag' || value.indexOf(':') > 0))
    if (all.length) filters[name] = all.slice(0, MOST)
  }
  const cost = query.get('min_cost_usd')
  if (cost && /^\d{1,9}(\.\d{1,9})?$/.test(cost)) filters.min_cost_usd = cost
  const took = Number(query.get('min_duration_ms'))
  if (Number.isInteger(took) && took > 0 && took <= 1e12) filters.min_duration_ms = took
  return filters
}

/** Whether only the server knows which runs match: an event does not say enough of a run. */
export function onlyReadTells(filters: RunFilters): boolean {
  const { key, q, model, tool, tag, min_cost_usd, min_duration_ms } = filters
  return [key, q, model, tool, tag, min_cost_usd, min_duration_ms].some((value) => value !== undefined)
}

/** Whether a run that an event tells belongs in a list with these filters, but for those that only a list can tell. */
export function matches(run: Run, filters: RunFilters): boolean {
  const { status, user_id, user_prefix, denied, reason, since, until } = filters
  if (status && run.status !== status) return false
  if (user_id && run.user_id !== user_id) return false
  if (user_prefix && !run.user_id.startsWith(user_prefix)) return false
  if (denied && denials(run) === 0) return false
  if (reason && run.deny_reason !== reason) return false
  if (since && Date.parse(run.started_at) < Date.parse(since)) return false
  return !until || Date.parse(run.started_at) < Date.parse(until)
}

/** How often a rule objected to a run: to its start, or to its steps. */
export function denials(run: Run): number {
  const born = run.status === 'BLOCKED' && run.ended_reason === null
  return run.blocked_step_count + (born ? 1 : 0)
}

/** What a list of denied runs adds up to: `27 denials in 9 runs`. */
export function total(runs: Run[]): string {
  const sum = runs.reduce((all, run) => all + denials(run), 0)
  return `${plural(sum, 'denial')} in ${plural(runs.length, 'run')}`
}
