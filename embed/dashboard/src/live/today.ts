// What an event says of today, put into what was read before: today is part of the 7 and the 30 days, so all three
// move together. What a page shows of one day never differs from itself.
import { fromNano, nano } from '../api/exact'
import type { Schema } from '../api/client'

type Usage = Schema<'Usage'>
type Totals = Schema<'UsageTotals'>

export function withToday(usage: Usage, today: Totals): Usage {
  const was = usage.today
  const moved = (span: Totals): Totals => ({
    ...span,
    total_usd: fromNano(nano(span.total_usd) + nano(today.total_usd) - nano(was.total_usd)),
    total_tokens: span.total_tokens + today.total_tokens - was.total_tokens,
    run_count: span.run_count + today.run_count - was.run_count,
    denial_count: span.denial_count + today.denial_count - was.denial_count,
    unpriced_tokens: span.unpriced_tokens + today.unpriced_tokens - was.unpriced_tokens,
    unpriced_step_count: span.unpriced_step_count + today.unpriced_step_count - was.unpriced_step_count,
    calls_without_usage: span.calls_without_usage + today.calls_without_usage - was.calls_without_usage,
    capped: span.capped || today.capped,
  })
  return {
    ...usage,
    today,
    last_7_days: moved(usage.last_7_days),
    last_30_days: moved(usage.last_30_days),
  }
}
