import type { Review } from '../../reviews/words'

/**
 * The list as it stands now. Those that were listed keep their places, and new ones come at the end, oldest first. What has
 * ended stays while it is held.
 */
export function merged(before: Review[], now: Review[], held: (review: Review) => boolean): Review[] {
  const byId = new Map(now.map((review) => [review.id, review]))
  const kept = before
    .map((review) => byId.get(review.id) ?? review)
    .filter((review) => review.status === 'pending' || held(review))
  const known = new Set(before.map(({ id }) => id))
  const fresh = now.filter(({ id, status }) => status === 'pending' && !known.has(id))
  return [
    ...kept,
    ...fresh.sort((a, b) =>
      a.requested_at < b.requested_at ? -1 : a.requested_at > b.requested_at ? 1 : a.id < b.id ? -1 : 1,
    ),
  ]
}

/** The review that "next" and "previous" lead to: the nearest that still waits, else the nearest there is. */
export function besides(items: Review[], chosen: string | null, by: 1 | -1): Review | undefined {
  const at = items.findIndex(({ id }) => id === chosen)
  if (at < 0) return by > 0 ? items[0] : items.at(-1)
  return items[at + by]
}
