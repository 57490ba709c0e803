// What the runs that are shown add up to, all in all and by time. The server sums what it lists and exports.
import { api, type Schema } from '../../api/client'
import { startOfDate } from '../../format/zone.svelte'
import { atMostEvery, resource } from '../../live/resource.svelte'
import { follow } from '../../live/stream.svelte'
import { sumsByDay } from '../../runs/days'
import type { RunFilters } from '../../runs/filters'

/** The chart has so many bars at most. */
const BARS = 100
const DAY = 24 * 60

export function sumsOf(filters: () => RunFilters, zone: () => string, oldestDate: () => string | null) {
  const totals = resource((signal) =>
    api.get('/v1/run-totals', { query: { ...filters(), buckets: BARS }, signal }),
  )
  // Where the bars are longer than days, what each day adds up to is asked for as far back as is listed.
  const oldest = $derived((totals.value?.bucket_minutes ?? 0) > DAY ? oldestDate() : null)
  const daily = resource(async (signal): Promise<Schema<'RunTotals'> | null> => {
    if (!oldest) return null
    const since = new Date(startOfDate(oldest, zone())).toISOString()
    return api.get('/v1/run-totals', { query: { ...filters(), since, bucket_minutes: DAY }, signal })
  }, 'What each day adds up to')
  const again = atMostEvery(2000, () => {
    void totals.refetch()
    if (oldest) void daily.refetch()
  })
  follow({ 'run.started': again, 'run.denied': again, 'run.ended': again, 'spend.changed': again })
  const days = $derived.by(() => {
    const by = oldest ? daily.value : totals.value
    return by ? sumsByDay(by, zone()) : new Map<string, never>()
  })
  return {
    totals,
    get days() {
      return days
    },
  }
}
