import { expect, test } from 'vitest'
import { reasons, reopens, why } from './reasons'

const now = Date.parse('2026-11-23T20:48:00Z')
const budget = {
  reason: 'WORKSPACE_DAILY_BUDGET_EXCEEDED' as const,
  limit: 25,
  used: 25.04,
  resets_at: '2026-11-24T00:00:00.000Z',
}

test('a budget is explained with its figures and its reset', () => {
  expect(why(budget, now)).toBe('today’s budget of $25.00 was reached ($25.04 spent)')
  expect(reopens(budget, now)).toBe('It opens again at 00:00 UTC, in 3 h 12 min.')
})

test('what is over is told in the past', () => {
  expect(why(budget, now + 86_400_000)).toContain('the day’s budget')
  expect(reopens(budget, now + 86_400_000)).toBe('It opened again at 00:00 UTC.')
  expect(reopens(budget, now + 3 * 86_400_000)).toBe('It opened again on 24 November at 00:00 UTC.')
})

test('a small budget is not shown as zero', () => {
  expect(why({ ...budget, limit: 0.002, used: 0.00225 }, now)).toContain(
    '$0.002 was reached ($0.00225 spent)',
  )
})

test('every reason has words', () => {
  for (const { code, sentence } of reasons) {
    expect(why({ reason: code, limit: 3, used: 3, resets_at: null }, now)).not.toBe('it was denied')
    expect(sentence).toMatch(/\.$/)
  }
})
