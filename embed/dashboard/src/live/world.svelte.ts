// What several pages show: the workspace, its usage, the server. Read once, then kept true by the stream.
import { api, type Schema } from '../api/client'
import { nano } from '../api/exact'
import { withToday } from './today'
import { afterMidnight } from './midnight'
import { atMostEvery, Resource } from './resource.svelte'
import { stream } from './stream.svelte'
import { unread } from './unread.svelte'

const FALLS_EVERY = 5_000

/** Whether nothing runs, and nothing was spent for a while: then nothing changes by itself. */
function isQuiet({ usd_per_minute, runs, minutes }: Schema<'UsageNow'>): boolean {
  return (
    nano(usd_per_minute) === 0n &&
    runs.length === 0 &&
    minutes.every(({ total_usd }) => nano(total_usd) === 0n)
  )
}

class World {
  /** Version and settings of the server; needs nobody to be signed in. */
  server = new Resource((signal) => api.get('/v1/server', { signal }), { followed: false })
  workspace = new Resource((signal) => api.get('/v1/workspace/', { signal }), { what: 'The workspace' })
  usage = new Resource((signal) => api.get('/v1/usage/', { signal }), { what: 'The usage' })
  /** How fast money goes. */
  now = new Resource((signal) => api.get('/v1/usage/now', { signal }), { what: 'The last hour' })

  /** Begins when somebody is signed in; returns a function that forgets it all. */
  watch(): () => void {
    const usageSoon = atMostEvery(1000, () => void this.usage.refetch())
    const nowSoon = atMostEvery(1000, () => void this.now.refetch())
    const all = [this.workspace, this.usage, this.now]
    // What the last 60 seconds cost falls without an event.
    const falls = setInterval(() => {
      if (!document.hidden && this.now.value && !isQuiet(this.now.value)) nowSoon()
    }, FALLS_EVERY)
    const both = () => {
      usageSoon()
      nowSoon()
    }
    for (const each of all) void each.refetch()
    const ends = [
      ...all.map((each) => stream.onGap(each.refetchAfterGap)),
      ...all.map((each) => unread.watch(each)),
      afterMidnight(() => stream.readAgain()),
      stream.on({
        'config.changed': ({ what }) => {
          if (what === 'workspace' || what === 'plan') void this.workspace.refetch()
          if (what === 'workspace') nowSoon()
          if (what === 'plan') usageSoon()
        },
        'spend.changed': ({ today, running_runs }) => {
          const usage = this.usage.value
          if (usage) this.usage.set({ ...withToday(usage, today), running_runs })
          both()
        },
        'reviews.changed': nowSoon,
        'run.denied': usageSoon,
        'step.denied': usageSoon,
        'run.started': both,
        'run.ended': both,
      }),
    ]
    // Last: what it has told already is heard by all of them.
    stream.start()
    return () => {
      clearInterval(falls)
      for (const end of ends) end()
      stream.stop()
      for (const each of all) each.drop()
    }
  }
}

export const world = new World()
