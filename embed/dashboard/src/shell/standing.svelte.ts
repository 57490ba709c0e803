// How things stand, for what every page shows of it: the mark, the gauge, the tab's title and icon.
import { time } from '../live/clock.svelte'
import { world } from '../live/world.svelte'
import { clockOf } from '../format/time'
import { standing as standingOf, tabOf } from './standing'

export type Mark = 'fine' | 'waiting' | 'burning' | 'stopped'

class Standing {
  /** Null until all is read that it depends on. */
  now = $derived.by(() => {
    const [usage, workspace, now] = [world.usage.value, world.workspace.value, world.now.value]
    return usage && workspace && now ? standingOf(usage, workspace, now, time.now, clockOf) : null
  })
  /** How many steps wait for a person. */
  reviews = $derived(world.now.value?.reviews_waiting ?? 0)
  mark: Mark = $derived.by(() => {
    if (world.workspace.value?.kill_switch) return 'stopped'
    if (this.now?.kind === 'burning' || this.now?.kind === 'refused') return 'burning'
    return this.reviews > 0 ? 'waiting' : 'fine'
  })
  tab = $derived(this.now && world.now.value ? tabOf(this.now.kind, world.now.value) : '')
}

export const standing = new Standing()
