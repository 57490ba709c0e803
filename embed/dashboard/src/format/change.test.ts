import { expect, test } from 'vitest'
import { changeOf, inWords, percent, shareOf, signedUsd } from './change'

test('a change says its sign, and ten times and more as such', () => {
  expect(changeOf(19.62, 13.04)).toBe('+50 %')
  expect(changeOf(5.13, 5.41)).toBe('−5 %')
  expect(changeOf(56.3, 1)).toBe('× 56')
  expect(changeOf(3, 0)).toBe('new')
  expect(changeOf(0, 0)).toBe('')
  expect(changeOf(100, 100)).toBe('±0 %')
  expect(changeOf(5_600_000, 100)).toBe('× 56,000')
  expect(changeOf(112, 100)).toBe('+12 %')
  expect(changeOf(0, 3)).toBe('−100 %')
  expect(changeOf(1.0001, 1)).toBe('+<1 %')
  expect(signedUsd(6.58, 2)).toBe('+$6.58')
  expect(signedUsd(-0.28, 2)).toBe('−$0.28')
  expect(signedUsd(0, 2)).toBe('$0.00')
  expect(signedUsd(-0.001, 2)).toBe('−<$0.01')
})

test('words for a sentence', () => {
  expect(inWords(27.88, 20.2)).toEqual({ figure: '38 % more', rest: ' than' })
  expect(inWords(1, 2)).toEqual({ figure: '50 % less', rest: ' than' })
  expect(inWords(560, 10)).toEqual({ figure: '56 times', rest: '' })
  expect(inWords(2, 2)).toEqual({ figure: 'as much', rest: ' as' })
})

test('shares have one decimal, and none is nothing that is something', () => {
  expect(shareOf(19.62, 27.88)).toBe('70.4 %')
  expect(shareOf(0.000001, 27.88)).toBe('<0.1 %')
  expect(shareOf(0, 27.88)).toBe('0.0 %')
  expect(shareOf(0, 0)).toBe('')
})

test.each([
  [0, '0 %'],
  [0.0001, '<1 %'],
  [0.134, '13 %'],
  [0.9999, '>99 %'],
  [1, '100 %'],
  [12.5, '1,250 %'],
])('a share of %d is %s', (part, words) => expect(percent(part)).toBe(words))
