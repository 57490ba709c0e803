import { expect, test } from 'vitest'
import type { RunDetail } from './detail.svelte'
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
    decision: allowed,
    latest_denial: null,
    ended_reason: 'CLIENT',
    ...more,
  }) as unknown as RunDetail
const at = (sequence: number, decision: object) => ({ latest_denial: { step_id: '', sequence, decision } })

test('a run stopped by the budget says which, how much and until when', () => {
  expect(story(run(at(9000, budget)), now)?.text).toBe(
    'Stopped at step 9000: today’s budget of $25.00 was reached ($25.04 spent). It opens again at 00:00 UTC, in 3 h 12 min.',
  )
})

test('a running run was not stopped', () => {
  expect(story(run({ status: 'RUNNING', ...at(7, budget) }), now)?.text).toContain('Step 7 was denied: ')
})

test('a denied start has no step', () => {
  const decision = { ...budget, reason: 'KILL_SWITCH_ACTIVE', limit: null, used: null, resets_at: null }
  expect(story(run({ decision }), now)?.text).toBe(
    'Denied at its start: the kill switch was on. Agents go on once it is turned off.',
  )
})

test('who ended a run is said where the status does not', () => {
  expect(story(run({ ended_reason: 'IDLE_TIMEOUT' }), now)?.text).toContain('no call for too long')
  expect(story(run({ ended_reason: 'DASHBOARD' }), now)?.text).toContain('by hand')
  expect(story(run({}), now)).toBeNull()
})

test('a step that came after the end did not stop the run', () => {
  const late = at(7, { outcome: 'DENY', reason: 'RUN_ALREADY_ENDED', evaluated: [] })
  expect(story(run({ status: 'COMPLETED', ...late }), now)?.text).toBe(
    'Step 7 was denied: the run had already ended.',
  )
})
