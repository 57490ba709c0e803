// A list of runs by the days of the workspace's zone, each with what its runs add up to.
import type { Schema } from '../api/client'
import { fromNano, nano } from '../api/exact'
import { count, plural } from '../format/count'
import { spend } from '../format/spent'
import { dateName } from '../format/time'
import { dateIn } from '../format/zone.svelte'

type Run = Schema<'RunSummary'>
type Sums = Pick<Schema<'RunBucket'>, 'run_count' | 'denied_run_count' | 'total_usd' | 'unpriced_tokens'>
export type Row = { key: string; run: Run } | { key: string; date: string }
export type Days = { zone: string; today: string; sums: Map<string, Sums> }

/** The runs with a row before the first of each date. */
export function byDay(runs: Run[], zone: string): Row[] {
  const rows: Row[] = []
  const seen = new Set<string>()
  for (const run of runs) {
    const date = dateIn(Date.parse(run.started_at), zone)
    if (!seen.has(date)) rows.push({ key: date, date })
    seen.add(date)
    rows.push({ key: run.id, run })
  }
  return rows
}

/** Pieces of time added up by date, where none is longer than one. */
export function sumsByDay(totals: Schema<'RunTotals'>, zone: string): Map<string, Sums> {
  const days = new Map<string, Sums>()
  if (!totals.bucket_minutes || totals.bucket_minutes > DAY) return days
  for (const piece of totals.by_time) {
    const date = dateIn(Date.parse(piece.since), zone)
    const sum = days.get(date)
    days.set(date, sum ? plus(sum, piece) : piece)
  }
  // Of the day at which the server ended its looking around, it knows a part.
  if (totals.at_least && totals.since) days.delete(dateIn(Date.parse(totals.since), zone))
  return days
}

const plus = (a: Sums, b: Sums): Sums => ({
  run_count: a.run_count + b.run_count,
  denied_run_count: a.denied_run_count + b.denied_run_count,
  unpriced_tokens: a.unpriced_tokens + b.unpriced_tokens,
  total_usd: fromNano(nano(a.total_usd) + nano(b.total_usd)),
})

/** `31 runs, $2.61, 5 denied`. */
export function sumInWords(sum: Sums): string {
  const denied = sum.denied_run_count ? `, ${count(sum.denied_run_count)} denied` : ''
  return `${plural(sum.run_count, 'run')}, ${spend(sum.total_usd, sum.unpriced_tokens)}${denied}`
}

/** `Today, Sun 29 Nov`. */
export const dayInWords = (date: string, today: string) =>
  (date === today ? 'Today, ' : '') +
  dateName(date) +
  (date.slice(0, 4) === today.slice(0, 4) ? '' : ' ' + date.slice(0, 4))

const DAY = 24 * 60
