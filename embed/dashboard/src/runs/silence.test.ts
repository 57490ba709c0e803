import { expect, test } from 'vitest'
import { silentFor } from './silence'

test('silence begins with the last call, and a clock behind makes none of less than nothing', () => {
  const run = { last_call_at: '2026-11-23T10:00:00.000Z' }
  expect(silentFor(run, Date.parse('2026-11-23T10:15:00Z'))).toBe(900)
  expect(silentFor(run, Date.parse('2026-11-23T09:59:59Z'))).toBe(0)
})
