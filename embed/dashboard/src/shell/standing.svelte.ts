// How things stand, for what every page shows of it: the mark, the tab's title and icon.
import { world } from '../live/world.svelte'

export type Mark = 'fine' | 'burning' | 'stopped'

class Standing {
  mark: Mark = $derived(world.workspace.value?.kill_switch ? 'stopped' : 'fine')
}

export const standing = new Standing()
