// The keys: "?" shows them, "g o" and its like go to pages, "/" searches, "j" and "k" move through the rows.
// They can be turned off, for people whose tools send single keys (WCAG 2.1.4).
import { inThisServer, keep, recall } from './kept'
import { world } from '../live/world.svelte'
import { kill } from './kill.svelte'
import { palette } from './palette.svelte'
import { navigate } from './router.svelte'
import { session } from './session.svelte'

const KEY = inThisServer('pikarc.keys')

/** Takes a key of the page, and says whether it did. */
type Own = (pressed: string, event: KeyboardEvent) => boolean

class Keys {
  on = $state(recall(KEY) !== 'off')
  helpOpen = $state(false)
  /** The keys of the page that is shown, which go first. */
  own: Own = () => false

  /** Takes keys for a page; returns a function that gives them back. */
  take(own: Own): () => void {
    this.own = own
    return () => {
      if (this.own === own) this.own = () => false
    }
  }

  turn(on: boolean) {
    this.on = on
    keep(KEY, on ? null : 'off')
  }
}

export const keys = new Keys()

/** What the help lists, in its order. */
export const places: { keys: string; title: string; path: string }[] = [
  { keys: 'g o', title: 'Overview', path: '/overview' },
  { keys: 'g r', title: 'Runs', path: '/runs' },
  { keys: 'g v', title: 'Reviews', path: '/reviews' },
  { keys: 'g u', title: 'Users', path: '/users' },
  { keys: 'g p', title: 'Prices', path: '/prices' },
  { keys: 'g l', title: 'Limits and policies', path: '/limits' },
  { keys: 'g d', title: 'API reference', path: '/docs' },
]

/** Listens for the keys; returns a function that stops. */
export function listen(): () => void {
  let before = ''
  const onKey = (event: KeyboardEvent) => {
    if (isPalette(event)) {
      event.preventDefault()
      void palette.open()
      return
    }
    if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey) return
    const dialog = document.querySelector('dialog[open]')
    if (!dialog && palette.takeEarly(event)) {
      event.preventDefault()
      return
    }
    if (!keys.on) return
    if (typing(event.target) || dialog) {
      before = ''
      return
    }
    const pressed = before === 'g' ? 'g ' + event.key : event.key
    before = before === 'g' ? '' : event.key
    if (act(pressed, event)) event.preventDefault()
  }
  window.addEventListener('keydown', onKey)
  return () => window.removeEventListener('keydown', onKey)
}

function act(pressed: string, event: KeyboardEvent): boolean {
  const place = places.find(({ keys }) => keys === pressed)
  if (place) navigate(place.path)
  else if (pressed === '?') keys.helpOpen = true
  else if (pressed === '!') return askToKill()
  else if (keys.own(pressed, event)) return true
  else if (pressed === '/') return focusSearch()
  else if (pressed === 'j') return move(1)
  else if (pressed === 'k') return move(-1)
  else return false
  return true
}

/** Ctrl K works wherever one types, as it does everywhere; with the keys turned off too, for it is no single key. */
function isPalette(event: KeyboardEvent): boolean {
  if (event.key.toLowerCase() !== 'k' || !(event.ctrlKey || event.metaKey) || event.altKey) return false
  return session.token !== null && !document.querySelector('dialog[open]')
}

/** Asks for the kill switch, where there is one. */
function askToKill(): boolean {
  const workspace = world.workspace.value
  if (!workspace || !session.token) return false
  if (!workspace.kill_switch && !workspace.features.kill_switch) return false
  kill.asked = workspace.kill_switch ? 'run' : 'stop'
  return true
}

function typing(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName))
  )
}

function focusSearch(): boolean {
  const field = document.querySelector<HTMLInputElement>('[data-search]')
  field?.focus()
  field?.select()
  return field !== null
}

// The link or button of each row carries data-row: moving is moving the focus, so Enter opens it by itself.
function move(by: 1 | -1): boolean {
  const rows = [...document.querySelectorAll<HTMLElement>('main [data-row]')]
  if (rows.length === 0) return false
  const at = rows.findIndex((row) => row === document.activeElement)
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by))
  rows[next]!.focus()
  rows[next]!.scrollIntoView({ block: 'nearest' })
  return true
}
