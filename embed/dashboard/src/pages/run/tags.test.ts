import { expect, test } from 'vitest'
import { tagsOf } from './tags'

test('tags are the texts of metadata.tags, or else the agent', () => {
  expect(tagsOf({ tags: { version: 'v14', agent: 'billing', n: 1, empty: '' }, agent: 'x' })).toEqual([
    ['agent', 'billing'],
    ['version', 'v14'],
  ])
  expect(tagsOf({ agent: 'support' })).toEqual([['agent', 'support']])
  expect(tagsOf({ tags: null, agent: 'support' })).toEqual([['agent', 'support']])
  for (const none of [null, 'text', [], {}, { agent: 7 }, { tags: ['a'] }]) expect(tagsOf(none)).toEqual([])
})
