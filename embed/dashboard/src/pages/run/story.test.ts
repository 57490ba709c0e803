import { expect, test } from 'vitest'
import type { RunDetail } from './timeline.svelte'
import type { Item } from './outline'
import { story } from './story'

const now = Date.parse('2026-11-23T20:48:00Z')
const allowed = { outcome: 'ALLOW', reason: null, evaluated: [] }
const budget = {
  outcome: 'DENY',
  reason: 'WORKSPACE_DAILY_BUDGET_EXCEEDED',
  limit: 25,
  used: 25.04,
  resets_at: '2026-11-24T00:00:00.000Z',
  evaluated: [],
}
const run = (more: object) =>
  ({
    status: 'BLOCKED',
    user_id: 'cust-1042',
    decision: allowed,
    latest_denial: null,
    ended_reason: 'CLIENT',
    started_at: '2026-11-23T20:40:00Z',
    ended_at: '2026-11-23T20:43:10Z',
    last_call_at: '2026-11-23T20:43:10Z',
    duration_ms: 190_000,
    step_count: 228,
    total_usd: 1.52,
    unpriced_tokens: 0,
    ...more,
  }) as unknown as RunDetail
const at = (sequence: number, decision: object) => ({ latest_denial: { step_id: 's', sequence, decision } })
const says = (run: RunDetail, items: Item[] = []) => {
  const { says, tone } = story(run, items, now)
  return `${tone}: ${says.map(({ text }) => text).join('')}`
}

test('a run stopped by the budget says which, how much and until when', () => {
  expect(says(run(at(9000, budget)))).toBe(
    'denied: Denied at step 9,000 after 3 min 10 s: the workspace had spent $25.04 of its $25.00 a day. It opens again at 00:00 UTC, in 3 h 12 min.',
  )
  const user = { ...budget, reason: 'USER_DAILY_BUDGET_EXCEEDED' }
  const { says: words } = story(run(at(9, user)), [], now)
  expect(words.filter(({ bold }) => bold).map(({ text }) => text)).toEqual([
    'Denied at step 9',
    '$25.04',
    '$25.00',
  ])
  expect(words[0]!.step).toBe('s')
})

test('a running run was not stopped', () => {
  expect(says(run({ status: 'RUNNING', ...at(7, budget) }))).toContain('Running, but step 7 was denied: ')
})

test('a denied start has no step', () => {
  const decision = { ...budget, reason: 'KILL_SWITCH_ACTIVE', limit: null, used: null, resets_at: null }
  expect(says(run({ decision }))).toBe(
    'denied: Denied at its start: the kill switch was on. Agents go on once it is turned off.',
  )
})

test('who ended a run is said where the status does not', () => {
  expect(says(run({ ended_reason: 'IDLE_TIMEOUT', status: 'FAILED' }))).toContain('no call for too long')
  expect(says(run({ ended_reason: 'DASHBOARD', status: 'FAILED' }))).toBe(
    'waiting: Ended by hand in the dashboard after 3 min 10 s. 228 steps, $1.52.',
  )
})

test('a failed run names the step, a completed one those that failed', () => {
  const failing = { id: 'f', sequence: 11, status: 'FAILED', tool: 'send_email', model: null } as Item
  expect(says(run({ status: 'FAILED' }), [failing])).toBe(
    'failed: Failed after 3 min 10 s, last at step 11, send_email. 228 steps, $1.52.',
  )
  expect(says(run({ status: 'COMPLETED' }), [failing])).toBe(
    'allowed: Completed in 3 min 10 s. 228 steps, $1.52. 1 step failed.',
  )
})

test('a step that came after the end did not stop the run', () => {
  const late = at(7, { outcome: 'DENY', reason: 'RUN_ALREADY_ENDED', evaluated: [] })
  expect(says(run({ status: 'COMPLETED', ...late }))).toContain('allowed: Completed')
})

test('a run that still runs says how old its last call is once that is long', () => {
  const live = { status: 'RUNNING', ended_at: null, ended_reason: null, duration_ms: null }
  expect(says(run({ ...live, last_call_at: '2026-11-23T20:47:50Z' }))).toBe(
    'running: Running for 8 min. 228 steps, $1.52.',
  )
  expect(says(run({ ...live, last_call_at: '2026-11-23T20:42:00Z' }))).toContain(
    'waiting: Running, but silent: its last call was 6 min ago.',
  )
})
