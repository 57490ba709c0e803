import { expect, test } from 'vitest'
import { spend, spentToday } from './spent'

test('what has no price is never $0.00', () => {
  expect(spend(0, 0)).toBe('$0.00')
  expect(spend(0, 5)).toBe('no price')
  expect(spend(0.12, 0)).toBe('$0.12')
  expect(spend(0.12, 5)).toBe('$0.12 + no price')
})

test.each([
  [3.18, 0, 25, '$3.18 of $25.00 spent today'],
  [3.18, 0, null, '$3.18 spent today'],
  [3.18, 1_200_000, 25, '$3.18 of $25.00 spent today and 1.2 M tokens without a price'],
  [0, 12_480, 25, '12,480 tokens without a price today, of a budget of $25.00'],
  [0, 12_480, null, '12,480 tokens without a price today'],
  [0, 0, null, '$0.00 spent today'],
])('%s known and %s tokens unknown of %s', (known, unpriced, budget, text) => {
  expect(spentToday(known, unpriced, budget)).toBe(text)
})
