import { expect, test } from 'vitest'
import { byUser } from './shares'

const report = (before: number) =>
  ({
    items: [
      { value: 'ana', total_usd: 3, before: { total_usd: before } },
      { value: 'bob', total_usd: 1, before: { total_usd: 0 } },
    ],
    total: { total_usd: 4, before: { total_usd: before } },
  }) as unknown as Parameters<typeof byUser>[0]

test('users have a share, and a change where there is something to compare with', () => {
  expect([...byUser(report(2))]).toEqual([
    ['ana', { share: '75.0 %', part: 1, change: '+50 %' }],
    ['bob', { share: '25.0 %', part: 1 / 3, change: 'new' }],
  ])
  expect(byUser(report(0)).get('bob')).toEqual({ share: '25.0 %', part: 1 / 3, change: '–' })
})
