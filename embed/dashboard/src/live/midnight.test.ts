import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { afterMidnight } from './midnight'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

test('it runs once a midnight, a little after it, and no more when it was ended', () => {
  vi.setSystemTime('2026-11-25T23:59:50Z')
  const run = vi.fn()
  const end = afterMidnight(run)
  vi.advanceTimersByTime(10_000)
  expect(run).not.toHaveBeenCalled()
  vi.advanceTimersByTime(10_000)
  expect(run).toHaveBeenCalledTimes(1)
  vi.advanceTimersByTime(3_600_000)
  expect(run).toHaveBeenCalledTimes(1)
  vi.advanceTimersByTime(86_400_000)
  expect(run).toHaveBeenCalledTimes(2)
  end()
  vi.advanceTimersByTime(86_400_000)
  expect(run).toHaveBeenCalledTimes(2)
})

test('a midnight that was slept through is noticed on waking', () => {
  vi.setSystemTime('2026-11-25T12:00:00Z')
  const run = vi.fn()
  afterMidnight(run)
  vi.setSystemTime('2026-11-28T08:00:00Z')
  vi.advanceTimersByTime(1000)
  expect(run).toHaveBeenCalledTimes(1)
})
