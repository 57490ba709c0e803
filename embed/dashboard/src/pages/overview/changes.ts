// Spend, tokens, runs and denials of a span of days beside those of the span before it.
import { fromNano, type Money, nano } from '../../api/exact'
import type { Schema } from '../../api/client'

type Day = Pick<
  Schema<'DayUsage'>,
  'total_usd' | 'prompt_tokens' | 'completion_tokens' | 'run_count' | 'denial_count'
>
export type Sums = { total_usd: Money; tokens: number; runs: number; denials: number }

/** The sums of `days` days that end so many days ago; null where the days do not reach back so far. */
export function sumsOf(all: Day[], days: number, ago: number): Sums | null {
  const end = all.length - ago
  if (end - days < 0) return null
  const span = all.slice(end - days, end)
  const sum = (of: (day: Day) => number) => span.reduce((total, day) => total + of(day), 0)
  return {
    total_usd: fromNano(span.reduce((total, day) => total + nano(day.total_usd), 0n)),
    tokens: sum((day) => day.prompt_tokens + day.completion_tokens),
    runs: sum((day) => day.run_count),
    denials: sum((day) => day.denial_count),
  }
}
