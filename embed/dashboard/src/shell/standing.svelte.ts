// How things stand, for what every page shows of it: the mark, the gauge, the tab's title and icon.
import { time } from '../live/clock.svelte'
import { world } from '../live/world.svelte'
import { clockOf } from '../format/time'
import { standing as standingOf, tabOf } from './standing'

export type Mark = 'fine' | 'burning' | 'stopped'

class Standing {
  /** Null until all is read that it depends on. */
  now = $derived.by(() => {
    const [usage, workspace, now] = [world.usage.value, world.workspace.value, world.now.value]
    return usage && workspace && now ? standingOf(usage, workspace, now, time.now, clockOf) : null
  })
  mark: Mark = $derived.by(() => {
    if (world.workspace.value?.kill_switch) return 'stopped'
    return this.now?.kind === 'burning' || this.now?.kind === 'refused' ? 'burning' : 'fine'
  })
  tab = $derived(this.now && world.now.value ? tabOf(this.now.kind, world.now.value) : '')
}

export const standing = new Standing()
