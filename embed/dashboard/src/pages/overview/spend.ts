// The figures of the chart: by day, the dearest models and the rest.
import { fromNano, type Money, nano } from '../../api/exact'
import type { Schema } from '../../api/client'

type Day = Schema<'DayUsage'>
export const OTHER = 'Other models'

export type Spend = {
  /** UTC dates, oldest first. */
  dates: string[]
  /** The dearest first; OTHER, if there is a rest, last. */
  series: { name: string; other: boolean; values: Money[] }[]
  totals: Money[]
  /** Tokens of each day that no price was known for. */
  unpriced: number[]
}

/** `today` is the total that the rest of the page shows of the last day: a moment newer or older than the days. */
export function spendOf(all: Day[], today?: Day['total_usd']): Spend {
  const days = sinceFirst(all)
  const models = days[0]?.by_model ?? []
  const series = models.map(({ model }, i) => ({
    name: model,
    other: false,
    values: days.map((day) => day.by_model?.[i]?.total_usd ?? 0),
  }))
  const rest = days.map((day, at) => {
    const named = series.reduce((sum, { values }) => sum + nano(values[at]!), 0n)
    return nano(day.total_usd) - named
  })
  const used = series.filter(({ values }) => values.some((value) => nano(value) > 0n))
  if (rest.some((value) => value > 0n)) {
    used.push({ name: OTHER, other: true, values: rest.map(fromNano) })
  }
  const totals = days.map((day) => day.total_usd)
  if (today !== undefined && totals.length > 0) totals[totals.length - 1] = today
  return {
    dates: days.map((day) => day.date),
    series: used,
    totals,
    unpriced: days.map((day) => day.unpriced_tokens),
  }
}

// Days before anything was used say nothing. A week is always shown.
function sinceFirst(days: Day[]): Day[] {
  const first = days.findIndex(
    ({ run_count, denial_count, total_usd }) => run_count > 0 || denial_count > 0 || nano(total_usd) > 0n,
  )
  return first <= 0 ? days : days.slice(Math.min(first, days.length - 7))
}

/** For each series the heights of it and all dearer ones together: what stacked bars are drawn from. */
export function stacked(spend: Spend): number[][] {
  const sums = spend.dates.map(() => 0n)
  return spend.series.map(({ values }) =>
    values.map((value, at) => {
      sums[at]! += nano(value)
      return Number(String(fromNano(sums[at]!)))
    }),
  )
}

/** Round values for an axis, at most four above zero. */
export function ticks(top: number): number[] {
  if (top <= 0) return [0]
  const rough = top / 4
  const size = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map((n) => n * size).find((n) => n >= rough)!
  const marks = [0]
  for (let i = 1; i * step <= top * 1.0001; i++) marks.push(Math.round(i * step * 1e12) / 1e12)
  return marks
}
