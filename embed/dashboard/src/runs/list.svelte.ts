// A live list of runs: what is on the screen stays where it is. New runs come in by themselves only while `still`
// is false; otherwise they wait behind a button. What is known of shown runs is put in place.
import { api, Problem, type Schema } from '../api/client'
import { asking } from '../api/early'
import { atMostEvery } from '../live/resource.svelte'
import { stream } from '../live/stream.svelte'
import { matches, onlyReadTells, type RunFilters, type RunOrder } from './filters'
import { merged, newestFirst, patched } from './merge'

type Run = Schema<'RunSummary'>
const PAGE = 50
const LONGEST_PAGE = 200

/** How many runs a list showed, from which on. */
export type Shown = { count: number; newest: string }

export class RunList {
  runs: Run[] | undefined = $state.raw()
  /** New runs that are not shown yet. */
  waiting: Run[] = $state.raw([])
  /** Ids of runs that just came in, which slide in. */
  fresh: Set<string> = $state.raw(new Set())
  problem: Problem | null = $state.raw(null)
  busy = $state(false)
  /** Set while the reader is in the midst of the list. */
  still = false

  #filters: RunFilters
  #order: RunOrder
  #cursor: string | null = $state(null)
  #abort = new AbortController()
  #began = 0
  /** Something was told before there was a list to put it into. */
  #heard = false

  #shown: Shown | undefined
  #reread = atMostEvery(2000, () => void this.#catchUp())

  /** `shown` is what was shown when one left: as much is read again, and what is newer waits. */
  constructor(filters: RunFilters, shown?: Shown, order: RunOrder = 'newest') {
    this.#filters = filters
    this.#order = order
    this.#shown = shown
  }

  get hasMore(): boolean {
    return this.#cursor !== null
  }

  /** Reads and follows; returns a function that ends both. */
  watch(): () => void {
    void this.load()
    const ends = [
      stream.on({
        'run.started': (run) => this.#hear(run),
        'run.denied': (run) => this.#hear(run),
        'run.ended': (run) => this.#change(run),
        'step.denied': ({ run }) => this.#change(run),
        'spend.changed': ({ runs }) => {
          this.#know(runs)
          if (runs.length === PAGE) this.#reread()
        },
      }),
      stream.onGap(() => {
        if (this.runs && this.#began < stream.wholeSince) void this.#catchUp()
      }),
    ]
    return () => {
      for (const end of ends) end()
      this.#abort.abort()
    }
  }

  load = async () => {
    const { count, newest: first } = this.#shown ?? { count: PAGE, newest: '' }
    const newest = this.#order === 'newest' ? first : ''
    const more = this.#shown !== undefined && count > PAGE
    let read: Run[] = []
    // Ids begin with the time, so they tell what is newer.
    const old = () => (newest ? read.filter(({ id }) => id <= newest) : read)
    let next: string | null = null
    do {
      const before: string | null = next
      next = null
      const take = (page: Schema<'RunList'>) => {
        read = [...read, ...page.items]
        next = page.next_cursor
      }
      const limit = more ? Math.min(LONGEST_PAGE, count - old().length) : PAGE
      await this.#read(before ?? undefined, take, limit)
      if (this.problem || this.#abort.signal.aborted) return
    } while (more && next && old().length < count)
    this.#cursor = next
    this.runs = old()
    this.waiting = read.filter((run) => !this.runs!.includes(run))
    this.#shown = undefined
    // Shown first, then read again: while the page opened, the stream came between.
    if (this.#began < stream.wholeSince || this.#heard) await this.#catchUp()
  }

  /** The next, older page, put below. */
  more = () =>
    this.#read(this.#cursor ?? undefined, ({ items, next_cursor }) => {
      this.runs = this.#together(this.runs ?? [], items)
      this.#cursor = next_cursor
    })

  // Another order than by start is the server's: what comes goes to the end, once.
  #together(runs: Run[], others: Run[]): Run[] {
    if (this.#order === 'newest') return merged(runs, others)
    const known = new Set(runs.map(({ id }) => id))
    return [...patched(runs, others), ...others.filter(({ id }) => !known.has(id))]
  }

  showWaiting = () => {
    this.#letIn(this.waiting)
    this.waiting = []
  }

  // After a gap: the newest page again. If it does not reach what is shown, the list begins anew.
  async #catchUp() {
    await this.#read(undefined, ({ items, next_cursor }) => {
      const known = new Set((this.runs ?? []).map(({ id }) => id))
      if (this.runs && this.#order !== 'newest') return this.#know(items)
      if (!this.runs || (items.length > 0 && !items.some(({ id }) => known.has(id)) && next_cursor)) {
        this.runs = items
        this.#cursor = next_cursor
        this.waiting = []
        return
      }
      this.#know(items)
      for (const run of items) if (!known.has(run.id)) this.#come(run)
    })
  }

  async #read(cursor: string | undefined, take: (page: Schema<'RunList'>) => void, limit = PAGE) {
    this.busy = true
    const { signal } = this.#abort
    const sort = this.#order === 'newest' ? undefined : this.#order
    const query = { ...this.#filters, sort, limit, cursor }
    const [page, began] = asking(() => api.get('/v1/runs/', { query, signal }))
    this.#began = began
    try {
      take(await page)
      this.problem = null
    } catch (error) {
      if (signal.aborted) return
      this.problem = error instanceof Problem ? error : new Problem(0, String(error))
    }
    this.busy = false
  }

  /** A run that an event tells: whether it matches, only the list that is read may say. */
  #hear(run: Run) {
    if (this.#order !== 'newest') return this.#know([run])
    if (onlyReadTells(this.#filters)) this.#reread()
    else this.#come(run)
  }

  #come(run: Run) {
    if (!this.runs) return void (this.#heard = true)
    if (!matches(run, this.#filters)) return
    if (this.runs.some(({ id }) => id === run.id)) return this.#know([run])
    if (this.still) this.waiting = merged(this.waiting, [run])
    else this.#letIn([run])
  }

  /** A run may match now that did not: it belongs among those that are read already, or on a later page. */
  #change(run: Run) {
    const oldest = this.runs?.at(-1)
    this.#know([run])
    if (!this.hasMore || (oldest && newestFirst(run, oldest) < 0)) this.#hear(run)
  }

  #letIn(runs: Run[]) {
    this.fresh = new Set(runs.map(({ id }) => id))
    this.runs = merged(this.runs ?? [], runs)
  }

  #know(news: Run[]) {
    if (!this.runs) return void (this.#heard = true)
    this.runs = patched(this.runs, news)
    this.waiting = patched(this.waiting, news)
  }
}
