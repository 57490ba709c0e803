import { describe, expect, test } from 'vitest'
import {
  amountOf,
  budgetIn,
  change,
  dearestToday,
  missing,
  refusesAtOnce,
  wrong,
  type Workspace,
} from './limits'

describe('what is typed', () => {
  test.each([
    ['0', '0'],
    ['25', '25'],
    ['2.50', '2.5'],
    ['0.000000001', '0.000000001'],
    ['$5', '5'],
    ['1e3', '1000'],
    ['.5', '0.5'],
    [' 1,000 ', '1000'],
  ])('"%s" is an amount', (text, sent) => {
    expect(wrong('daily_budget_usd', text)).toBeUndefined()
    expect(change('daily_budget_usd', text)).toEqual({ daily_budget_usd: sent })
  })

  test.each(['', '2,50', '-1', '5 €', '1.2.3', 'much'])('"%s" is no amount', (text) => {
    expect(wrong('user_daily_budget_usd', text)).toContain('dollars')
  })

  test('whole numbers are sent as numbers, and nothing else is', () => {
    expect(change('max_concurrent_runs', '12')).toEqual({ max_concurrent_runs: 12 })
    expect(wrong('max_concurrent_runs', '12')).toBeUndefined()
    for (const text of ['', '1.5', '-1', 'many'])
      expect(wrong('run_idle_timeout_seconds', text)).toBeDefined()
  })
})

test('what a plan lacks is said with the plans that have it', () => {
  const features = { kill_switch: false, user_daily_budget: true, configurable_concurrency: false }
  const workspace = { features } as Workspace
  expect(missing(workspace, 'user_daily_budget')).toBeNull()
  expect(missing(workspace, 'configurable_concurrency')).toContain('Pro, Scale and Enterprise')
})

test('the dearest user of the day is found however little was spent', () => {
  const users = (...spent: number[]) =>
    spent.map((today_usd, i) => ({ user_id: `u${i}`, today_usd, today_unpriced_tokens: 0 }))
  expect(dearestToday(users(0.000000001, 0))?.user_id).toBe('u0')
  expect(dearestToday(users(0.00012, 0.00019, 0.00018))?.user_id).toBe('u1')
  expect(dearestToday(users(9, 10, 2))?.user_id).toBe('u1')
  expect(dearestToday(users(0, 0))).toBeUndefined()
  expect(dearestToday([])).toBeUndefined()
})

describe('what a daily budget would do', () => {
  const days = (...spent: number[]) => spent.map((total_usd) => ({ total_usd }))

  test('counts the days on which it is reached, and what lies above it', () => {
    const had = budgetIn(days(2, 3, 5.5, 0, 3.000000001), 3)
    expect([had.reached, String(had.over), String(had.spent)]).toEqual([3, '2.500000001', '13.500000001'])
  })

  test('a day without spend reaches no budget', () => expect(budgetIn(days(0, 0), 0).reached).toBe(0))

  test('asks only where something is refused that was allowed before', () => {
    expect(refusesAtOnce(3.18, 25, 3)).toBe(true)
    expect(refusesAtOnce(3.18, null, 3.18)).toBe(true)
    expect(refusesAtOnce(3.18, 25, 3.19)).toBe(false)
    expect(refusesAtOnce(3.18, 2, 1)).toBe(false) // it is refused already
    expect(refusesAtOnce(3.18, 25, null)).toBe(false)
    expect(refusesAtOnce(3.18, 25, undefined)).toBe(false)
  })

  test('nothing typed is no budget, and what cannot be read is none either', () => {
    expect(amountOf(' ')).toBeNull()
    expect(amountOf('2,5')).toBeUndefined()
    expect(String(amountOf('$2e-3'))).toBe('0.002')
  })
})
