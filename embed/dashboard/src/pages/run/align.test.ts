import { expect, test } from 'vitest'
import { align, differs } from './align'
import type { Item } from './outline'

const item = (tool: string, more: Partial<Item> = {}) =>
  ({ type: 'TOOL_CALL', model: null, tool, status: 'COMPLETED', input: tool, ...more }) as Item
const of = (text: string) => [...text].map((tool) => item(tool))
const shown = (a: string, b: string) =>
  align(of(a), of(b))
    .map(([x, y]) => (a[x] ?? '-') + (b[y] ?? '-'))
    .join(' ')

test.each([
  ['abc', 'abc', 'aa bb cc'],
  ['', '', ''],
  ['', 'ab', '-a -b'],
  ['abcd', 'abd', 'aa bb c- dd'],
  ['abd', 'abcd', 'aa bb -c dd'],
  ['xab', 'ab', 'x- aa bb'],
])('%s beside %s is %s', (a, b, want) => expect(shown(a, b)).toBe(want))

test('each step of both stands once, in its order, whatever the runs are', () => {
  let seed = 7
  const random = (n: number) => (seed = (seed * 48271) % 2147483647) % n
  for (let round = 0; round < 200; round++) {
    const [a, b] = [0, 1].map(() => of(Array.from({ length: random(30) }, () => 'abcd'[random(4)]).join('')))
    const pairs = align(a!, b!)
    expect(pairs.map(([x]) => x).filter((x) => x >= 0)).toEqual(a!.map((_, i) => i))
    expect(pairs.map(([, y]) => y).filter((y) => y >= 0)).toEqual(b!.map((_, i) => i))
    for (const [x, y] of pairs) if (x >= 0 && y >= 0) expect(a![x]!.tool).toBe(b![y]!.tool)
  }
})

test('runs that have nothing in common are compared by their places', () => {
  const [a, b] = [
    Array.from({ length: 5000 }, () => item('a')),
    Array.from({ length: 4000 }, () => item('b')),
  ]
  const pairs = align(a, b)
  expect(pairs).toHaveLength(5000)
  expect(pairs[4500]).toEqual([4500, -1])
})

test('what differs is named', () => {
  expect(differs(item('a'), item('a'))).toBeNull()
  expect(differs(item('a'), undefined)).toBe('only in this run')
  expect(differs(item('a', { status: 'FAILED' }), item('a', { input: 'x' }))).toBe('another outcome')
  expect(differs(item('a'), item('a', { input: 'x' }))).toBe('another input')
})
