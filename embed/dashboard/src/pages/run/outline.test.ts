import { describe, expect, test } from 'vitest'
import { Exact, nano } from '../../api/exact'
import { costOf, foldsOf, type Item, lanesOf, rowsOf, rowWith } from './outline'

let made = 0
const step = (more: Partial<Item> = {}): Item => ({
  id: String(++made),
  sequence: made,
  type: 'TOOL_CALL',
  status: 'COMPLETED',
  model: null,
  tool: 'search',
  at: 0,
  took: 0,
  tokensIn: 0,
  tokensOut: 0,
  cost: null,
  reason: null,
  input: 'a',
  ...more,
})
const many = (n: number, more: (i: number) => Partial<Item>) =>
  Array.from({ length: n }, (_, i) => step(more(i)))

describe('repeats', () => {
  test('one call with the same input is folded from three on', () => {
    expect([...foldsOf(many(2, () => ({})))]).toEqual([])
    expect([...foldsOf(many(3333, () => ({})))]).toEqual([[0, { period: 1, times: 3333 }]])
  })

  test('another input, no input, another tool and a problem are no repeat', () => {
    for (const different of [
      { input: 'b' },
      { input: null },
      { tool: 'read' },
      { status: 'FAILED' } as const,
    ]) {
      expect([...foldsOf([step(), step(), step(different), step(), step()])]).toEqual([])
    }
    expect([...foldsOf(many(9, () => ({ input: null })))]).toEqual([])
  })

  test('a model whose conversation grows, and a tool with the same input, are one round', () => {
    const model = { type: 'MODEL_CALL', model: 'gpt-4o', tool: null } as const
    const loop = many(214, (i) => (i % 2 ? {} : { ...model, input: `m${i}` }))
    expect([...foldsOf(loop)]).toEqual([[0, { period: 2, times: 107 }]])
    // A model alone that is asked for something else each time is a conversation.
    expect([...foldsOf(many(20, (i) => ({ ...model, input: `m${i}` })))]).toEqual([])
  })

  test('a step within a fold is found in it, and as its own row once it is open', () => {
    const items = [step({ tool: 'x' }), ...many(5, () => ({})), step({ tool: 'y' })]
    const folds = foldsOf(items)
    const closed = rowsOf(items, folds, new Set())
    expect(closed.map(({ first, last }) => [first, last])).toEqual([
      [0, 0],
      [1, 5],
      [6, 6],
    ])
    expect(rowWith(closed, 3)).toBe(1)
    const open = rowsOf(items, folds, new Set([items[1]!.id]))
    expect(open).toHaveLength(8)
    expect(open[rowWith(open, 3)]).toEqual({ first: 3, last: 3, fold: null })
  })
})

test('steps at the same time stand in a bracket', () => {
  const at = (from: number, took: number | null, status: Item['status'] = 'COMPLETED') =>
    step({ at: from, took, status })
  expect(lanesOf([at(0, 10), at(10, 30), at(12, 5), at(39, 10), at(50, 1)], 100)).toEqual([
    null,
    'first',
    'mid',
    'last',
    null,
  ])
  expect(lanesOf([at(0, null, 'RUNNING'), at(50, 1)], 100)).toEqual(['first', 'last'])
})

test('what steps cost is added to the nano-dollar, however many and however large', () => {
  const costs = [null, 0.1, 0.2, 1e-9, 99_999.123456789, new Exact('12345678.123456789'), 3e-9]
  const items = Array.from({ length: 5000 }, (_, i) => step({ cost: costs[i % costs.length]! }))
  const exact = items.reduce((sum, { cost }) => sum + (cost === null ? 0n : nano(cost)), 0n)
  expect(nano(costOf(items, 0, items.length - 1)!)).toBe(exact)
  expect(costOf(items, 0, 0)).toBeNull()
})
