// A user's part of what all spent, and how it differs from the period before.
import type { Schema } from '../../api/client'
import { nano } from '../../api/exact'
import { percent, shareOf } from '../usage/change'

export type Share = { share: string; change: string }

/** Where nobody spent anything before, there is nothing to compare with. */
export function byUser({ items, total }: Schema<'UsageBy'>): Map<string, Share> {
  const compared = nano(total.before?.total_usd ?? 0) > 0n
  return new Map(
    items.map(({ value, total_usd, before }) => [
      value,
      {
        share: shareOf(total_usd, total.total_usd),
        change: compared ? percent(total_usd, before?.total_usd ?? 0) : '–',
      },
    ]),
  )
}
