import { expect, test } from 'vitest'
import { parse } from './typed'

test('conditions are taken out of what is typed, and words stay', () => {
  expect(parse('  refund   failed ')).toEqual({ q: 'refund failed', set: {}, add: [] })
  expect(parse('refund cost > 0.5')).toEqual({ q: 'refund', set: { min_cost_usd: '0.5' }, add: [] })
  expect(parse('cost>=$2 took > 1.5 min').set).toEqual({ min_cost_usd: '2', min_duration_ms: '90000' })
  expect(parse('duration > 840 ms').set).toEqual({ min_duration_ms: '840' })
  expect(parse('duration > 3').set).toEqual({ min_duration_ms: '3000' })
  expect(parse('model:gpt-4o tool:"a b" agent:billing tag:env:live user:acme/jo x')).toEqual({
    q: 'x',
    set: { user_id: 'acme/jo' },
    add: [
      { name: 'model', value: 'gpt-4o' },
      { name: 'tool', value: 'a b' },
      { name: 'tag', value: 'agent:billing' },
      { name: 'tag', value: 'env:live' },
    ],
  })
})

test('what is no condition is a word', () => {
  for (const text of ['tag:live', 'cost > much', 'discost > 5x', 'user:', 'http://a.example']) {
    expect(parse(text)).toEqual({ q: text, set: {}, add: [] })
  }
})
