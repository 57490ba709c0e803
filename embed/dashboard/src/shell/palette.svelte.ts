// "Ctrl K": goes to any page, run, user or model. Its code is loaded when it is first asked for.
import type { Component } from 'svelte'
import { notices } from './notices.svelte'

class PaletteState {
  component: Component | undefined = $state.raw()
  shown = $state(false)
  typed = $state('')

  async open() {
    this.shown = true
    try {
      this.component ??= (await import('./Palette.svelte')).default
    } catch {
      this.shown = false
      notices.say('“Go to” could not be loaded. Check that you are online, and try again.')
    }
  }

  /** Takes a key that is typed before there is a field for it, and says whether it did: it is no key of the page. */
  takeEarly({ key }: KeyboardEvent): boolean {
    if (!this.shown || this.component) return false
    if (key === 'Escape') this.shown = false
    else if (key === 'Backspace') this.typed = this.typed.slice(0, -1)
    else if (key.length === 1) this.typed += key
    return true
  }
}

export const palette = new PaletteState()
