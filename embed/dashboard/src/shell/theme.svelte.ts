// Light, dark, or as the system is: this browser remembers it. src/boot.ts puts it on <html> before the first paint.
import { inThisServer, keep, recall } from './kept'

export type Choice = 'system' | 'light' | 'dark'

const KEY = inThisServer('pikarc.theme')
const system = matchMedia('(prefers-color-scheme: dark)')

function recalled(): Choice {
  const kept = recall(KEY)
  return kept === 'light' || kept === 'dark' ? kept : 'system'
}

class Theme {
  choice: Choice = $state(recalled())
  #system = $state(system.matches)
  /** What is shown: canvases are drawn for it. */
  dark = $derived(this.choice === 'system' ? this.#system : this.choice === 'dark')

  constructor() {
    system.addEventListener('change', () => (this.#system = system.matches))
    // Another tab of this browser chose.
    window.addEventListener('storage', ({ key }) => {
      if (key === KEY) this.#show(recalled())
    })
    this.#show(this.choice)
  }

  choose(choice: Choice) {
    keep(KEY, choice === 'system' ? null : choice)
    this.#show(choice)
  }

  #show(choice: Choice) {
    this.choice = choice
    if (choice === 'system') delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = choice
  }
}

export const theme = new Theme()
