import { expect, test } from 'vitest'
import { dayEndsAt, forecast, hour } from './forecast'

const at = Date.parse('2026-11-29T23:12:00Z')
const minutes = Array.from({ length: 60 }, () => ({
  at: '2026-11-29T22:13:00Z',
  total_usd: 0.01,
  top_run_id: null,
  top_run_usd: 0,
}))
const now = { minutes, today_usd: 3.18, budget_gone_at: null }

test('the day ends as the last hour went', () => {
  expect(Number(hour(now))).toBe(0.6)
  expect(Number(dayEndsAt(now, at))).toBe(3.66)
  expect(forecast(now, 25, at)).toBe('The day ends in 48 min at 00:00 UTC, at $3.66 if it goes on like this.')
  expect(forecast(now, 3.5, at)).toContain('the budget does not last')
  expect(forecast({ ...now, minutes: [] }, 25, at)).toBe('')
})
