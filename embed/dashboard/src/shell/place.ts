// Where on a page one is. Each entry of the history has a place of its own, which Back and a reload return to, to the
// pixel: how far down, and how much of a list that grows was shown. It lives as long as the tab.

type Kept = { y: number; lists: Record<string, unknown> }

// Pages are read anew on the way back: until they are as long as they were, there is nowhere to scroll to.
const PATIENCE = 5_000

export class Place {
  #key = ''
  #kept: Kept = { y: 0, lists: {} }
  #stop = () => {}

  constructor() {
    history.scrollRestoration = 'manual'
    window.addEventListener('pagehide', () => this.leave())
    this.come()
  }

  /** How far down one is to come to. */
  get y(): number {
    return this.#kept.y
  }

  /** Whether the page is on its way to where one was: what would scroll it by itself waits. */
  get returning(): boolean {
    return this.#returning && this.#kept.y > 0
  }

  /** What a list kept of itself, when one comes back to it. */
  kept<T>(list: string): T | undefined {
    return this.#kept.lists[list] as T | undefined
  }

  keep(list: string, value: unknown) {
    this.#kept.lists[list] = value
  }

  /** The place of the entry that is shown is kept. */
  leave() {
    // On the way to its place, a page is not where it should be yet.
    if (!this.#returning) this.#kept.y = window.scrollY
    this.#stop()
    write(this.#key, this.#kept)
  }

  /** A new entry begins at its top. */
  begin() {
    this.#stop()
    this.#key = crypto.getRandomValues(new Uint32Array(2)).join('-')
    this.#kept = { y: 0, lists: {} }
    history.replaceState({ place: this.#key }, '')
  }

  /** An entry that one comes back to; one that has no place yet gets its own. */
  come() {
    const key = (history.state as { place?: string } | null)?.place
    if (!key) return this.begin()
    this.#key = key
    this.#kept = read(key)
    this.#return()
  }

  #returning = false

  /** Goes there whenever the page is long enough, until the reader does anything. */
  #return() {
    const { y } = this.#kept
    const moves = ['wheel', 'touchmove', 'keydown', 'pointerdown']
    const go = () => {
      if (document.querySelector('main .skeleton')) return
      if (document.documentElement.scrollHeight >= y + innerHeight) window.scrollTo(0, y)
    }
    const watch = new ResizeObserver(go)
    const end = () => {
      watch.disconnect()
      clearTimeout(timer)
      this.#returning = false
      this.#stop = () => {}
      for (const name of moves) window.removeEventListener(name, end)
    }
    const timer = setTimeout(end, PATIENCE)
    for (const name of moves) window.addEventListener(name, end)
    this.#returning = true
    this.#stop = end
    watch.observe(document.body)
  }
}

const NAME = 'pikarc.place.'

function read(key: string): Kept {
  try {
    const kept = JSON.parse(sessionStorage.getItem(NAME + key) ?? '') as Partial<Kept>
    return { y: Number(kept.y) || 0, lists: kept.lists ?? {} }
  } catch {
    return { y: 0, lists: {} }
  }
}

function write(key: string, kept: Kept) {
  try {
    sessionStorage.setItem(NAME + key, JSON.stringify(kept))
  } catch {
    // A locked-down browser, or one that is full: then a page begins at its top.
  }
}
