import { describe, expect, test } from 'vitest'
import { clockOf } from '../format/time'
import { zones } from '../format/zone.svelte'
import { type Now, standing, tabOf } from './standing'

zones.choose('utc')

const at = Date.parse('2026-11-29T02:13:41Z')
const limits = { kill_switch: false, daily_budget_usd: 25 as number | null, max_concurrent_runs: 8 }
const quiet: Now = {
  usd_per_minute: 0.02,
  usual_usd_per_minute: 0.02,
  burning: false,
  budget_gone_at: null,
  yesterday_usd: null,
  last_week_usd: null,
  most_expensive: null,
  stopped: null,
  reviews_waiting: 0,
}
const usage = (total_usd = 3.18, running_runs = 4, unpriced_tokens = 0, monthly_run_count = 0) => ({
  today: {
    total_usd,
    total_tokens: 0,
    run_count: 0,
    denial_count: 0,
    unpriced_tokens,
    unpriced_step_count: unpriced_tokens ? 2 : 0,
    calls_without_usage: 0,
    capped: false,
  },
  running_runs,
  by_reason: [{ reason: 'KILL_SWITCH_ACTIVE' as const, today: 214, last_7_days: 214, last_30_days: 214 }],
  monthly_run_count,
  monthly_run_limit: 1000,
})
const fire: Now = {
  ...quiet,
  usd_per_minute: 7.6,
  usual_usd_per_minute: 0.19,
  burning: true,
  budget_gone_at: '2026-11-29T02:14:39Z',
  most_expensive: {
    user_id: 'cust-9999',
    run_id: 'x',
    title: 'Nightly batch',
    run_count: 1,
    usd_per_minute: 7.41,
  },
}
const killed: Now = {
  ...fire,
  stopped: { since: '2026-11-29T02:10:00Z', by: 'ana@example.com', reason: 'loop in batch' },
}

function said(now: Now, used = usage(), workspace = limits) {
  const { kind, tone, parts, notes } = standing(used, workspace, now, at, clockOf)
  const text = parts.map((part) => (typeof part === 'string' ? part : part.figure)).join('')
  return { kind, tone, text, notes: notes.join(' ') }
}

describe('the sentence', () => {
  test.each([
    [
      'stopped',
      'All agents are stopped since 02:10 UTC by ana@example.com: “loop in batch”. 2 are still open.',
      said(killed, usage(3.18, 2), { ...limits, kill_switch: true }),
    ],
    [
      'stopped',
      'All agents are stopped. None is open.',
      said({ ...quiet, stopped: { since: null, by: null, reason: null } }, usage(0, 0), {
        ...limits,
        kill_switch: true,
      }),
    ],
    [
      'refused',
      'Every agent is refused: today’s $25.00 are spent. Opens at 00:00 UTC, in 21 h 46 min.',
      said(fire, usage(25)),
    ],
    [
      'refused',
      'Every agent is refused: today’s $0.00 are spent. Opens at 00:00 UTC, in 21 h 46 min.',
      said(quiet, usage(0), { ...limits, daily_budget_usd: 0 }),
    ],
    [
      'burning',
      'Burning $7.60 a minute, 40 × the usual: “Nightly batch” (cust-9999). The budget is gone in 58 s.',
      said(fire),
    ],
    [
      'burning',
      'Burning $7.60 a minute: 3 runs of cust-9999. No budget ends it.',
      said(
        {
          ...fire,
          usual_usd_per_minute: null,
          budget_gone_at: null,
          most_expensive: { ...fire.most_expensive!, run_id: null, title: null, run_count: 3 },
        },
        usage(),
        { ...limits, daily_budget_usd: null },
      ),
    ],
    [
      'unpriced',
      '1.2 M tokens today have no price.',
      said({ ...quiet, reviews_waiting: 2 }, usage(3.18, 4, 1_200_000)),
    ],
    ['waiting', '2 steps wait for a person.', said({ ...quiet, reviews_waiting: 2 })],
    ['waiting', '1 step waits for a person.', said({ ...quiet, reviews_waiting: 1 })],
    ['calm', '4 agents running, $0.02 a minute, $3.18 of $25.00 today.', said(quiet)],
    [
      'calm',
      'No agent running, $0 a minute, $0.00225 today.',
      said({ ...quiet, usd_per_minute: 0 }, usage(0.00225, 0), { ...limits, daily_budget_usd: null }),
    ],
  ])('%s: %s', (kind, text, is) => expect([is.kind, is.text]).toEqual([kind, text]))

  test('the worst that holds comes first', () => {
    const all: Now = { ...fire, reviews_waiting: 2 }
    const worst = { ...limits, kill_switch: true }
    expect(said(all, usage(25, 4, 9), worst).kind).toBe('stopped')
    expect(said(all, usage(25, 4, 9)).kind).toBe('refused')
    expect(said(all, usage(3, 4, 9)).kind).toBe('burning')
    expect(said({ ...all, burning: false }, usage(3, 4, 9)).kind).toBe('unpriced')
    expect(said({ ...all, burning: false }).kind).toBe('waiting')
  })

  test('a calm day says why no run may start, and what other days had spent', () => {
    const days = { ...quiet, yesterday_usd: 3.5, last_week_usd: 0 }
    expect(said(days).notes).toBe('By this time: $3.50 yesterday (today −9 %), $0.00 a week ago.')
    expect(said(quiet, usage(3.18, 8)).tone).toBe('waiting')
    expect(said(quiet, usage(3.18, 8)).notes).toContain('no other may start')
    expect(said(quiet, usage(3.18, 4, 0, 1000)).notes).toContain('all 1,000 of the month are used')
    expect(said(quiet, usage(24)).tone).toBe('waiting')
  })
})

test.each([
  ['■ stopped', 'stopped', killed],
  ['■ refused', 'refused', fire],
  ['● $7.6/min', 'burning', fire],
  ['● $12/min', 'burning', { ...fire, usd_per_minute: 12.4 }],
  ['(2) to review', 'waiting', { ...quiet, reviews_waiting: 2 }],
  ['(1) to review', 'unpriced', { ...quiet, reviews_waiting: 1 }],
  ['', 'calm', quiet],
] as const)('the tab says %s', (text, kind, now) => expect(tabOf(kind, now)).toBe(text))
