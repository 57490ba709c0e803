// What several pages show: the workspace, its usage, the server. Read once, then kept true by the stream.
import { api } from '../api/client'
import { withToday } from './today'
import { afterMidnight } from './midnight'
import { atMostEvery, Resource } from './resource.svelte'
import { stream } from './stream.svelte'

class World {
  /** Version and settings of the server; needs nobody to be signed in. */
  server = new Resource((signal) => api.get('/v1/server', { signal }), { told: false })
  workspace = new Resource((signal) => api.get('/v1/workspace/', { signal }))
  usage = new Resource((signal) => api.get('/v1/usage/', { signal }))

  /** Begins when somebody is signed in; returns a function that forgets it all. */
  watch(): () => void {
    const usageSoon = atMostEvery(1000, () => void this.usage.refetch())
    const all = [this.workspace, this.usage]
    // First the stream: what is read once it is open needs not be read again.
    stream.start()
    for (const each of all) void each.refetch()
    const ends = [
      ...all.map((each) => stream.onGap(each.refetchAfterGap)),
      afterMidnight(() => stream.readAgain()),
      stream.on({
        'config.changed': ({ what }) => {
          if (what === 'workspace' || what === 'plan') void this.workspace.refetch()
          if (what === 'plan') usageSoon()
        },
        'spend.changed': ({ today, running_runs }) => {
          const usage = this.usage.value
          if (usage) this.usage.set({ ...withToday(usage, today), running_runs })
          usageSoon()
        },
        'run.denied': usageSoon,
        'step.denied': usageSoon,
        'run.started': usageSoon,
        'run.ended': usageSoon,
      }),
    ]
    return () => {
      for (const end of ends) end()
      stream.stop()
      for (const each of all) each.drop()
    }
  }
}

export const world = new World()
