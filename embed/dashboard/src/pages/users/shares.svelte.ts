// What part of the last 30 days' spend each user has, and how that differs from the 30 days before.
import { api } from '../../api/client'
import { nano } from '../../api/exact'
import { dateIn } from '../../format/zone.svelte'
import { time } from '../../live/clock.svelte'
import { atMostEvery, resource } from '../../live/resource.svelte'
import { follow } from '../../live/stream.svelte'
import { world } from '../../live/world.svelte'
import { plus } from '../usage/period'
import { byUser, type Share } from './shares'

/** The server compares so many users, the most expensive first. */
const MOST = 200

/** By user id; a user who is not among those that the server compares has none. */
export function sharesOfUsers() {
  const today = $derived(dateIn(time.now, world.workspace.value?.timezone ?? 'UTC'))
  const report = resource(
    (signal) =>
      api.get('/v1/usage/by', {
        query: {
          group: 'user',
          since: plus(today, -29),
          until: plus(today, 1),
          before_since: plus(today, -59),
          before_until: plus(today, -29),
          limit: MOST,
        },
        signal,
      }),
    'The shares of users',
  )
  const soon = atMostEvery(5000, () => void report.refetch())
  follow({ 'spend.changed': soon, 'config.changed': ({ what }) => what === 'users' && soon() })
  const shares = $derived(report.value ? byUser(report.value) : new Map<string, Share>())
  const total = $derived(
    report.value && {
      total: report.value.total,
      count: report.value.items.length,
      more: report.value.items.length === MOST,
    },
  )
  return {
    of: (user: string) => shares.get(user),
    /** What all of them cost, and how many they are. */
    get total() {
      return total
    },
    /** Whether there is a time before to compare with. */
    get compared() {
      return nano(total?.total.before?.total_usd ?? 0) > 0n
    },
    get failed() {
      return report.problem !== null
    },
  }
}
