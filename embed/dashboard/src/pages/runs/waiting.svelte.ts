// Which runs wait for a person.
import { api } from '../../api/client'
import { atMostEvery, resource } from '../../live/resource.svelte'
import { follow } from '../../live/stream.svelte'
import { world } from '../../live/world.svelte'
import { nameOf } from '../../reviews/words'
import type { Waiting } from '../../runs/note'

/** By run; nothing is asked while nobody waits. */
export function waitingRuns() {
  const any = $derived((world.now.value?.reviews_waiting ?? 0) > 0)
  const reviews = resource(
    async (signal) =>
      any ? (await api.get('/v1/reviews/', { query: { status: 'pending', limit: 200 }, signal })).items : [],
    'Which runs wait for a person',
  )
  follow({ 'reviews.changed': atMostEvery(1000, () => void reviews.refetch()) })
  const by = $derived(
    new Map<string, Waiting>(
      (reviews.value ?? []).map(({ id, run_id, action, expires_at }) => [
        run_id,
        { id, name: nameOf(action), expires_at },
      ]),
    ),
  )
  return {
    get by() {
      return by
    },
  }
}
