import { expect, test } from 'vitest'
import { answer } from './answer'

const now = Date.parse('2026-11-23T20:48:00Z')
const limits = { kill_switch: false, daily_budget_usd: 25, max_concurrent_runs: 8 }
const usage = (total_usd: number, running_runs = 0, monthly_run_count = 0) => ({
  today: {
    total_usd,
    total_tokens: 0,
    run_count: 0,
    denial_count: 0,
    unpriced_tokens: 0,
    unpriced_step_count: 0,
    calls_without_usage: 0,
    capped: false,
  },
  running_runs,
  monthly_run_count,
  monthly_run_limit: 1000,
})

test.each([
  ['calm', 'No agent running, $3.18 of $25.00 spent today', usage(3.18), limits],
  ['calm', '1 agent running, $3.18 spent today', usage(3.18, 1), { ...limits, daily_budget_usd: null }],
  [
    'stopped',
    'All agents are stopped: the kill switch is on. 2 are still open, $3.18 of $25.00 spent today',
    usage(3.18, 2),
    { ...limits, kill_switch: true },
  ],
  [
    'stopped',
    'Every agent is refused: $25.04 of $25.00 spent today. The budget opens at 00:00 UTC, in 3 h 12 min. 1 is still open',
    usage(25.04, 1),
    limits,
  ],
  [
    'stopped',
    'Every agent is refused: $0.00 of $0.00 spent today. The budget opens at 00:00 UTC, in 3 h 12 min. None is open',
    usage(0),
    { ...limits, daily_budget_usd: 0 },
  ],
  [
    'full',
    'No run may start: all 1,000 of the month are used until 00:00 UTC on the first, in 7 d 3 h. No agent running, $3.18 of $25.00 spent today',
    usage(3.18, 0, 1000),
    limits,
  ],
  [
    'full',
    '8 agents running, as many as may: no other may start. $3.18 of $25.00 spent today',
    usage(3.18, 8),
    limits,
  ],
])('%s: %s', (tone, text, used, workspace) => {
  expect(answer(used, workspace, now)).toEqual({ tone, text })
})

test('what stops all is said before what stops some', () => {
  expect(answer(usage(30, 8, 1000), { ...limits, kill_switch: true }, now).text).toContain('kill switch')
  expect(answer(usage(30, 8, 1000), limits, now).text).toContain('refused')
})
