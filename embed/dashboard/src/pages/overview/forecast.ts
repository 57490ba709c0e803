// How the day will end if it goes on like the last 60 minutes.
import { type Money, nano } from '../../api/exact'
import type { Schema } from '../../api/client'
import { usdInColumn } from '../../format/money'
import { resets, until } from '../../format/time'
import { fromNano } from '../../api/exact'

type Now = Pick<Schema<'UsageNow'>, 'minutes' | 'today_usd' | 'budget_gone_at'>

/** What the last 60 minutes cost. */
export function hour(now: Pick<Now, 'minutes'>): Money {
  return fromNano(now.minutes.reduce((sum, { total_usd }) => sum + nano(total_usd), 0n))
}

/** What the day will have cost at 00:00 UTC. */
export function dayEndsAt(now: Now, at: number): Money {
  const left = BigInt(Math.max(0, Math.round((Date.parse(resets(at).day) - at) / 1000)))
  return fromNano(nano(now.today_usd) + (nano(hour(now)) * left) / 3600n)
}

/** The same as a sentence, where anything was spent. */
export function forecast(now: Now, budget: Money | null, at: number): string {
  if (nano(hour(now)) === 0n) return ''
  const end = dayEndsAt(now, at)
  const over = budget !== null && nano(end) > nano(budget)
  const then = `The day ends ${until(resets(at).day, at)} at 00:00 UTC`
  return over
    ? `${then}; at this rate the budget does not last.`
    : `${then}, at ${usdInColumn(end, 2)} if it goes on like this.`
}
