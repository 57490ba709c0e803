// What of the runs one wants to see, as the address says it.
import type { Schema } from '../api/client'
import { plural } from '../format/count'
import { type DenyReason, reasons } from '../format/reasons'

type Run = Schema<'RunSummary'>
type Status = Schema<'RunStatus'>

export type RunFilters = {
  status?: Status
  user_id?: string
  /** Runs only that some rule objected to. */
  denied?: true
  reason?: DenyReason
  /** The id of the API key that started them, which no run of a list or an event says. */
  key?: string
  since?: string
  until?: string
}

export const statuses: { value: Status; label: string }[] = [
  { value: 'RUNNING', label: 'Running' },
  { value: 'COMPLETED', label: 'Completed' },
  { value: 'FAILED', label: 'Failed' },
  { value: 'BLOCKED', label: 'Denied' },
]

const HOUR = 3_600_000
export const spans: { value: string; label: string; since: (now: number) => number }[] = [
  { value: '1h', label: 'Last hour', since: (now) => now - HOUR },
  { value: 'today', label: 'Today (UTC)', since: (now) => now - (now % (24 * HOUR)) },
  { value: '24h', label: 'Last 24 hours', since: (now) => now - 24 * HOUR },
  { value: '7d', label: 'Last 7 days', since: (now) => now - 7 * 24 * HOUR },
  { value: '30d', label: 'Last 30 days', since: (now) => now - 30 * 24 * HOUR },
]

/** The parameters of the address that say which runs. */
export const names = ['status', 'denied', 'reason', 'time', 'user_id', 'key']

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

/** Values of the address that mean nothing are left out, so that a mistyped link still shows runs. */
export function filtersOf(query: URLSearchParams, now: number): RunFilters {
  const filters: RunFilters = {}
  const status = statuses.find(({ value }) => value === query.get('status'))
  const reason = reasons.find(({ code }) => code === query.get('reason'))
  const span = spans.find(({ value }) => value === query.get('time'))
  const user = query.get('user_id')
  const key = query.get('key')
  if (status) filters.status = status.value
  if (query.get('denied') === 'true') filters.denied = true
  if (reason) filters.reason = reason.code
  if (span) filters.since = new Date(span.since(now)).toISOString()
  if (user) filters.user_id = user
  if (key && UUID.test(key)) filters.key = key
  return filters
}

/** Whether a run that an event tells belongs in a list with these filters, but for the key. */
export function matches(run: Run, filters: RunFilters): boolean {
  const { status, user_id, denied, reason, since, until } = filters
  if (status && run.status !== status) return false
  if (user_id && run.user_id !== user_id) return false
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
