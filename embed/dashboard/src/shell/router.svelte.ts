// The page one is on, as the address says it. Links are plain <a href>: clicks on them are taken here, unless the
// reader wants a new tab. Filters live in the query.
import { tick } from 'svelte'
import { base, below } from './base'
import { Place } from './place'

class Router {
  /** Without the base path, as routes have it. */
  path = $state(below(base, location.pathname))
  search = $state(location.search)
  query = $derived(new URLSearchParams(this.search))
  /** Counts navigations to another path: each begins at the top with the focus on the heading. */
  visits = $state(0)

  /** Where on the page one is: each entry of the history has its own. */
  place = new Place()

  constructor() {
    window.addEventListener('popstate', () => {
      this.place.leave()
      this.#read()
      this.place.come()
    })
    document.addEventListener('click', onClick)
  }

  #read() {
    const path = below(base, location.pathname)
    const moved = path !== this.path
    this.path = path
    this.search = location.search
    if (moved) this.visits++
  }

  go(url: string, replace: boolean) {
    const target = new URL(base + url, location.origin)
    const same = target.pathname === location.pathname && target.search === location.search
    const stays = replace || same
    if (!stays) this.place.leave()
    history[stays ? 'replaceState' : 'pushState'](stays ? history.state : null, '', target)
    if (!stays) this.place.begin()
    const moved = below(base, target.pathname) !== this.path
    this.#read()
    if (moved) void tick().then(() => window.scrollTo(0, 0))
  }
}

export const router = new Router()

/** Goes to a path of the dashboard. `replace` leaves no entry for the back button. */
export function navigate(url: string, { replace = false } = {}) {
  router.go(url, replace)
}

/** The address of this page with other filters, for a link; null removes one, and the rest stays. */
export function addressWith(changes: Record<string, string | null>): string {
  return base + pathWith(changes)
}

function pathWith(changes: Record<string, string | null>): string {
  const query = new URLSearchParams(router.search)
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) query.delete(name)
    else query.set(name, value)
  }
  const text = query.toString()
  return router.path + (text ? '?' + text : '')
}

/** Sets filters in the address; an empty value removes one. The page stays, back undoes it. */
export function setQuery(changes: Record<string, string | null>, { replace = false } = {}) {
  const set = Object.entries(changes).map(([name, value]) => [name, value || null])
  navigate(pathWith(Object.fromEntries(set)), { replace })
}

function onClick(event: MouseEvent) {
  if (event.defaultPrevented || event.button !== 0) return
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
  const link = (event.target as Element | null)?.closest?.('a[href]') as HTMLAnchorElement | null
  if (!link || link.target || link.hasAttribute('download') || link.origin !== location.origin) return
  if (!link.pathname.startsWith(base + '/')) return
  const path = below(base, link.pathname)
  if (link.getAttribute('href')!.startsWith('#') || !isPage(path)) return
  event.preventDefault()
  navigate(path + link.search)
}

// Files and calls of the server itself are no pages: the browser opens them.
function isPage(path: string): boolean {
  return !path.startsWith('/v1/') && !path.startsWith('/health') && !path.endsWith('.json')
}
