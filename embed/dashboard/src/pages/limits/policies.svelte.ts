// The policies of the workspace, kept true: what they say, what they did, and what is used of their limits.
import { api } from '../../api/client'
import { atMostEvery, resource } from '../../live/resource.svelte'
import { follow } from '../../live/stream.svelte'

/** To be called while a component is made. */
export function watchPolicies() {
  const policies = resource((signal) => api.get('/v1/policies/', { signal }))
  const soon = atMostEvery(5000, () => void policies.refetch())
  follow({
    'config.changed': ({ what }) => {
      if (what === 'policies') void policies.refetch()
    },
    'spend.changed': soon,
    'reviews.changed': soon,
  })
  return policies
}
