// What people have said to the steps of a run that they were asked about.
import { api } from '../../api/client'
import { atMostEvery, resource } from '../../live/resource.svelte'
import { follow } from '../../live/stream.svelte'
import { verdictOf } from '../../reviews/words'

/** By step, once the run is there: nothing of the page waits for it. To be called while a component is made. */
export function verdictsOf(run: () => { id: string } | null) {
  const id = $derived(run()?.id ?? null)
  const verdicts = resource(async (signal) => {
    if (id === null) return new Map<string, string>()
    const { items } = await api.get('/v1/reviews/', { query: { run_id: id, limit: 200 }, signal })
    return new Map(items.map((review) => [review.step_id, verdictOf(review)]))
  }, 'The reviews of this run')
  const soon = atMostEvery(1000, () => void verdicts.refetch())
  follow({
    'reviews.changed': (event) => {
      if (event.run.id === id) soon()
    },
  })
  return verdicts
}
