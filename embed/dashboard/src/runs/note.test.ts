import { expect, test } from 'vitest'
import type { Schema } from '../api/client'
import { isQuiet, noteOf } from './note'

const now = Date.parse('2026-11-23T10:10:00Z')
const run = (more: Partial<Schema<'RunSummary'>>) =>
  ({
    id: 'a',
    status: 'RUNNING',
    deny_reason: null,
    ended_reason: null,
    step_count: 7,
    blocked_step_count: 0,
    last_call_at: '2026-11-23T10:09:50Z',
    ...more,
  }) as Schema<'RunSummary'>
const waits = { id: 'r1', name: 'refund', expires_at: '2026-11-23T10:13:20.500Z' }
const step = { type: 'TOOL_CALL', model: null, tool_name: 'search', created_at: '2026-11-23T10:09:56Z' }

test('what went well has no second line', () => {
  expect(noteOf(run({ status: 'COMPLETED' }), now)).toBe(null)
  expect(noteOf(run({}), now)).toBe(null)
})

test('a running run says what it does, waits for, or that it is silent: the most urgent of them', () => {
  expect(noteOf(run({}), now, undefined, step)).toEqual({ text: 'search, 4 s ago' })
  expect(noteOf(run({}), now, waits, step)).toEqual({
    text: 'waits for a person: refund, 3 min 20 s left',
    tone: 'waiting',
    path: '/reviews?review=r1',
  })
  const quiet = run({ last_call_at: '2026-11-23T09:59:00Z' })
  expect(isQuiet(quiet, now)).toBe(true)
  expect(noteOf(quiet, now, undefined, step)).toEqual({ text: 'last call 11 min ago', tone: 'waiting' })
})

test('a denial is told in its sentence, and why a run failed where that is known', () => {
  expect(noteOf(run({ status: 'BLOCKED', deny_reason: 'USER_BLOCKED' }), now)?.text).toBe(
    'The user was blocked.',
  )
  expect(
    noteOf(run({ status: 'COMPLETED', deny_reason: 'USER_BLOCKED', blocked_step_count: 1 }), now)?.text,
  ).toBe('1 of 7 steps denied: User blocked')
  expect(noteOf(run({ status: 'FAILED', ended_reason: 'IDLE_TIMEOUT' }), now)?.text).toMatch(/idle/)
  expect(noteOf(run({ status: 'FAILED', ended_reason: 'CLIENT' }), now)).toBe(null)
  expect(isQuiet(run({ status: 'FAILED', last_call_at: '2026-11-20T10:00:00Z' }), now)).toBe(false)
})
