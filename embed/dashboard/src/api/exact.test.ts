import { describe, expect, test } from 'vitest'
import { decimalText, Exact, fromNano, nano, parseExact } from './exact'

// Node 20 passes no source to a reviver; the tests that need one say what they got.
const sources = (() => {
  let seen = false
  JSON.parse('1', ((_k: string, _v: unknown, c?: { source?: string }) => {
    seen = c?.source === '1'
  }) as (k: string, v: unknown) => unknown)
  return seen
})()

describe('decimalText', () => {
  test.each([
    [0, '0'],
    [0.00225, '0.00225'],
    [2.5e-7, '0.00000025'],
    [1e-9, '0.000000001'],
    [1e21, '1000000000000000000000'],
    [1.5e21, '1500000000000000000000'],
    [25, '25'],
    [-0.5, '-0.5'],
    [new Exact('1000000000.123456789'), '1000000000.123456789'],
    [new Exact('0.100000000000'), '0.1'],
    [new Exact('1.50E-3'), '0.0015'],
  ])('%s is %s', (value, text) => expect(decimalText(value)).toBe(text))
})

describe('nano', () => {
  test('adds what binary floats cannot', () => {
    expect(nano(0.1) + nano(0.2)).toBe(nano(0.3))
  })
  test('goes there and back without loss', () => {
    for (const text of ['0', '0.000000001', '1000000000.123456789', '25.04']) {
      expect(String(fromNano(nano(new Exact(text))))).toBe(text)
    }
  })
  test('keeps the sign', () => expect(decimalText(fromNano(-nano(2.5)))).toBe('-2.5'))
})

describe('parseExact', () => {
  test('leaves numbers that fit as numbers', () => {
    expect(parseExact('{"total_usd":0.00225,"n":3,"s":"0.1"}')).toEqual({
      total_usd: 0.00225,
      n: 3,
      s: '0.1',
    })
  })
  test('keeps the digits of numbers that do not', () => {
    const { total_usd } = parseExact('{"total_usd":999999999.123456789}') as { total_usd: number | Exact }
    expect(String(total_usd)).toBe(sources ? '999999999.123456789' : '999999999.1234568')
  })
})
