// A user's part of what all spent, and how it differs from the period before.
import type { Schema } from '../../api/client'
import { nano } from '../../api/exact'
import { changeOf, shareOf } from '../../format/change'

/** `part` is of what the user who spent most did, from 0 to 1. */
export type Share = { share: string; part: number; change: string }

/** Where nobody spent anything before, there is nothing to compare with. */
export function byUser({ items, total }: Schema<'UsageBy'>): Map<string, Share> {
  const compared = nano(total.before?.total_usd ?? 0) > 0n
  const most = Math.max(1, ...items.map(({ total_usd }) => Number(nano(total_usd))))
  return new Map(
    items.map(({ value, total_usd, before }) => [
      value,
      {
        share: shareOf(total_usd, total.total_usd),
        part: Number(nano(total_usd)) / most,
        change: compared ? changeOf(total_usd, before?.total_usd ?? 0) : '–',
      },
    ]),
  )
}
