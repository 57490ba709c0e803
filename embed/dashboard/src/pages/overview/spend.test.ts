import { expect, test } from 'vitest'
import { OTHER, spendOf, stacked, ticks } from './spend'

const day = (date: string, total_usd: number, a: number, b: number) => ({
  date,
  total_usd,
  prompt_tokens: 0,
  completion_tokens: 0,
  run_count: 0,
  blocked_run_count: 0,
  denial_count: 0,
  unpriced_tokens: 0,
  unpriced_step_count: 0,
  calls_without_usage: 0,
  capped: false,
  by_model: [
    { model: 'a', total_usd: a },
    { model: 'b', total_usd: b },
  ],
})

test('the rest is what the named models do not explain, exactly', () => {
  const spend = spendOf([day('2026-11-22', 0.3, 0.1, 0.1), day('2026-11-23', 0.2, 0.1, 0.1)])
  expect(spend.series.map(({ name }) => name)).toEqual(['a', 'b', OTHER])
  expect(spend.series[2]!.values.map(String)).toEqual(['0.1', '0'])
  expect(stacked(spend)).toEqual([
    [0.1, 0.1],
    [0.2, 0.2],
    [0.3, 0.2],
  ])
})

test('without a rest there is no other', () => {
  expect(spendOf([day('2026-11-22', 0.2, 0.1, 0.1)]).series).toHaveLength(2)
})

test('days without spend are there, as zero', () => {
  const spend = spendOf([day('2026-11-22', 0, 0, 0), day('2026-11-23', 1, 1, 0)])
  expect(spend.dates).toHaveLength(2)
  expect(spend.series.map(({ values }) => values)).toEqual([[0, 1]])
})

test('ticks are few and round', () => {
  expect(ticks(25)).toEqual([0, 10, 20])
  expect(ticks(0.0031)).toEqual([0, 0.001, 0.002, 0.003])
  expect(ticks(9.7)).toEqual([0, 2.5, 5, 7.5])
  expect(ticks(0)).toEqual([0])
})
