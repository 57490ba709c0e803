import { describe, expect, test } from 'vitest'
import { decimalOf } from '../../format/typed'
import { likelyPerMillion, priceProblem, toMillion, toToken } from './convert'

describe('what is typed', () => {
  test.each([
    ['2.50', '2.5'],
    [' $2.50 ', '2.5'],
    ['$ 15', '15'],
    ['.5', '0.5'],
    ['3.', '3'],
    ['007', '7'],
    ['0', '0'],
    ['1,000', '1000'],
    ['1,234,567.25', '1234567.25'],
    ['2.5e-6', '0.0000025'],
    ['1E2', '100'],
  ])('%s is %s', (typed, want) => expect(decimalOf(typed)).toBe(want))

  // A comma in place of a point would be a price a hundred times too high if it were dropped.
  test.each([
    '',
    '.',
    '$',
    'free',
    '-1',
    '2,50',
    '1,00',
    '1 000',
    '1.2.3',
    'e5',
    'Infinity',
    'NaN',
    '0x10',
    '1e999',
  ])('“%s” is no amount', (typed) => expect(decimalOf(typed)).toBeNull())
})

describe('one and a million', () => {
  test.each([
    ['0.0000025', '2.5'],
    ['0.00000015', '0.15'],
    ['0.000000000001', '0.000001'],
    ['1000000', '1000000000000'],
    ['0', '0'],
    ['0.1', '100000'],
    ['0.123456789012', '123456.789012'],
  ])('%s a token is %s a million, and back', (token, million) => {
    expect(toMillion(token)).toBe(million)
    expect(toToken(million)).toBe(token)
  })

  test('no digit is lost that a float would lose', () => {
    expect(toToken('0.3')).toBe('0.0000003')
    expect(toToken('123456789012.345678')).toBe('123456.789012345678')
    expect(toMillion('999999.999999999999')).toBe('999999999999.999999')
  })

  test('what is no amount becomes nothing', () => {
    expect(toToken('2,50')).toBe('')
    expect(toMillion('')).toBe('')
  })
})

describe('what is wrong with a price', () => {
  test.each(['0', '0.000000000001', '1000000', '2.5e-6'])('nothing with %s', (text) =>
    expect(priceProblem(text)).toBe(''),
  )
  test.each([
    ['', /number/],
    ['free', /number/],
    ['0.0000000000001', /At most 6 decimals/],
    ['1000000.000000000001', /1,000,000/],
    ['1000001', /1,000,000/],
  ])('“%s”', (text, want) => expect(priceProblem(text)).toMatch(want))
})

test.each([
  ['0.01', false],
  ['0.010000000001', true],
  ['2.5', true],
  ['0.0000025', false],
  ['free', false],
])('“%s” is likely meant for a million: %s', (text, want) => expect(likelyPerMillion(text)).toBe(want))
