// What the Usage page draws and lists: parts of a period's use, each with a hue, its links, and its numbers by day.
import type { Schema } from '../../api/client'
import { fromNano, type Money, nano } from '../../api/exact'
import { count, tokenFormOf, tokens, tokensInColumn } from '../../format/count'
import { decimalsOf, usd, usdInColumn } from '../../format/money'
import { userPath } from '../../shell/users'
import type { Period } from './period'
import { plus } from './period'

export type Report = Schema<'UsageBy'>
type Sums = Schema<'UsageRest'>

export type Measure = 'spend' | 'tokens' | 'runs' | 'blocked'
export const measures: { value: Measure; label: string }[] = [
  { value: 'spend', label: 'Spend' },
  { value: 'tokens', label: 'Tokens' },
  { value: 'runs', label: 'Runs' },
  { value: 'blocked', label: 'Blocked' },
]

/** A row of the table, and a colour of the chart. */
export type Part = {
  key: string
  name: string
  /** 1 to 5 for those that the chart tells apart, 0 for the rest. */
  hue: number
  sums: Sums
  /** Its own page, if it has one. */
  page?: string
  /** The explorer with its runs; null for what has no filter. */
  runs: string | null
}

export const HUES = 5

/** The measures that the rollup of a group keeps. */
export function measuresOf(group: string): Measure[] {
  if (group === 'model' || group === 'tool') return ['spend', 'tokens']
  if (group === 'user' || group === 'prefix') return ['spend', 'runs']
  return ['spend', 'tokens', 'runs', 'blocked']
}

export function partsOf(
  report: Report,
  group: string,
  period: Period,
  nameOf: (value: string) => string,
): Part[] {
  return report.items.map((sums, i) => ({
    key: sums.value,
    name: nameOf(sums.value),
    hue: i < HUES ? i + 1 : 0,
    sums,
    page: group === 'user' ? userPath(sums.value) : undefined,
    runs: runsPath(group, sums.value, period),
  }))
}

const FILTERS: Record<string, string> = {
  model: 'model',
  tool: 'tool',
  user: 'user_id',
  prefix: 'user_prefix',
  key: 'key',
}

/** The explorer with what a part is made of. */
export function runsPath(group: string, value: string | null, { since, until }: Period): string {
  const query = new URLSearchParams()
  if (value !== null) {
    if (group.startsWith('tag:')) query.set('tag', `${group.slice(4)}:${value}`)
    // An entry that prices calls of a tool stands among the models.
    else if (group === 'model' && value.startsWith('tool:')) query.set('tool', value.slice(5))
    else query.set(FILTERS[group] ?? 'q', value)
  }
  query.set('since', since)
  query.set('until', plus(until, -1))
  return '/runs?' + query
}

export function valueOf(sums: Schema<'UsageSum'>, measure: Measure): number {
  if (measure === 'spend') return Number(String(sums.total_usd))
  if (measure === 'tokens') return (sums.prompt_tokens ?? 0) + (sums.completion_tokens ?? 0)
  return (measure === 'runs' ? sums.run_count : sums.blocked_run_count) ?? 0
}

export function daysOf(sums: Sums, measure: Measure): number[] {
  const days = sums.by_day
  if (!days) return []
  if (measure === 'spend') return days.total_usd.map((value) => Number(String(value)))
  if (measure === 'tokens')
    return (days.prompt_tokens ?? []).map((prompt, i) => prompt + (days.completion_tokens?.[i] ?? 0))
  return (measure === 'runs' ? days.run_count : days.blocked_run_count) ?? []
}

export const wordOf = (value: number, measure: Measure, exact?: Money) =>
  measure === 'spend' ? usd(exact ?? value) : measure === 'tokens' ? tokens(value) : count(value)

/** How the figures of a column are written: one form for all of them. */
export function formOf(measure: Measure, column: number[]): (value: number) => string {
  if (measure === 'tokens') {
    const form = tokenFormOf(column)
    return (value) => tokensInColumn(value, form)
  }
  if (measure !== 'spend') return count
  const decimals = decimalsOf(column)
  return (value) => usdInColumn(value, decimals)
}

/** Whatever the coloured parts leave over, day by day. */
export function restByDay(total: Sums, parts: Part[], measure: Measure): number[] {
  if (measure === 'spend') {
    const days = total.by_day?.total_usd ?? []
    return days.map((all, day) => {
      const shown = parts.reduce((sum, { sums }) => sum + nano(sums.by_day!.total_usd[day]!), 0n)
      return Number(String(fromNano(nano(all) - shown)))
    })
  }
  return daysOf(total, measure).map(
    (all, day) => all - parts.reduce((sum, { sums }) => sum + (daysOf(sums, measure)[day] ?? 0), 0),
  )
}
