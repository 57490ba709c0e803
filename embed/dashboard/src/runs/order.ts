// The list that one came from to a run: what is before and after it there. It lives as long as the tab.
const NAME = 'pikarc.runs.order'

type List = { address: string; ids: string[] }

/** Keeps which runs a list shows, in its order, and where the list is. */
export function rememberList(address: string, ids: string[]) {
  try {
    sessionStorage.setItem(NAME, JSON.stringify({ address, ids } satisfies List))
  } catch {
    // A locked-down browser: then a run's neighbours are those of all runs.
  }
}

/** Where a run stands in the list that was shown last; null when it is not in it. */
export function listAround(id: string) {
  try {
    const { address, ids } = JSON.parse(sessionStorage.getItem(NAME) ?? '') as List
    const at = ids.indexOf(id)
    if (at < 0) return null
    return { address, at: at + 1, of: ids.length, newer: ids[at - 1] ?? null, older: ids[at + 1] ?? null }
  } catch {
    return null
  }
}
