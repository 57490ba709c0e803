import { expect, test } from 'vitest'
import { decimalText } from '../api/exact'
import type { Schema } from '../api/client'
import { withToday } from './today'

const totals = (usd: number, count: number) => ({
  total_usd: usd,
  total_tokens: count * 100,
  run_count: count,
  denial_count: count * 2,
  unpriced_tokens: count * 3,
  unpriced_step_count: count,
  calls_without_usage: count * 4,
  capped: false,
})

test('what is new today is in the 7 and the 30 days too', () => {
  const usage = { today: totals(0.1, 1), last_7_days: totals(1.2, 5), last_30_days: totals(9, 20) }
  const moved = withToday(usage as unknown as Schema<'Usage'>, totals(0.3, 4))
  expect(moved.today).toEqual(totals(0.3, 4))
  expect(decimalText(moved.last_7_days.total_usd)).toBe('1.4')
  expect(decimalText(moved.last_30_days.total_usd)).toBe('9.2')
  expect(moved.last_7_days).toMatchObject({ total_tokens: 800, run_count: 8, denial_count: 16 })
  expect(moved.last_30_days).toMatchObject({ total_tokens: 2300, run_count: 23, denial_count: 46 })
  expect(moved.last_7_days).toMatchObject({
    unpriced_tokens: 24,
    unpriced_step_count: 8,
    calls_without_usage: 32,
  })
  const full = withToday(usage as unknown as Schema<'Usage'>, { ...totals(0.3, 4), capped: true })
  expect([full.today.capped, full.last_7_days.capped, full.last_30_days.capped]).toEqual([true, true, true])
})
