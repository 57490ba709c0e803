import { expect, test } from 'vitest'
import { rate, times } from './rate'

test.each([
  [0, '$0'],
  [7.6, '$7.60'],
  [0.02, '$0.02'],
  [0.0113, '$0.01'],
  [0.0031, '$0.0031'],
  [0.000001, '<$0.0001'],
])('%d is %s a minute', (value, text) => expect(rate(value)).toBe(text))

test.each([
  [7.6, 0.19, '40 ×'],
  [0.03, 0.02, '1.5 ×'],
  [190, 0.1, '1,900 ×'],
  [7.6, 0, ''],
  [7.6, null, ''],
])('%d is so many times %j: %s', (usd_per_minute, usual_usd_per_minute, text) =>
  expect(times({ usd_per_minute, usual_usd_per_minute })).toBe(text),
)
