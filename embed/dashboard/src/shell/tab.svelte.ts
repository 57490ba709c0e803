// The tab's title and icon: they say how things stand while one looks at something else.
import burningIcon from '../look/icon-burning.svg'
import stoppedIcon from '../look/icon-stopped.svg'
import waitingIcon from '../look/icon-waiting.svg'
import { base } from './base'
import { type Mark, standing } from './standing.svelte'

class Tab {
  /** What the page calls itself. */
  page = $state('')
}

export const tab = new Tab()

/** Keeps title and icon true; to be called while a component is made. */
export function followTab() {
  const icon = document.querySelector<HTMLLinkElement>('link[rel="icon"]')!
  const icons: Record<Mark, string> = {
    fine: icon.href,
    waiting: base + waitingIcon,
    burning: base + burningIcon,
    stopped: base + stoppedIcon,
  }
  $effect(() => {
    document.title = [standing.tab, tab.page, 'Pikarc'].filter(Boolean).join(' · ')
  })
  $effect(() => {
    icon.href = icons[standing.mark]
  })
}
