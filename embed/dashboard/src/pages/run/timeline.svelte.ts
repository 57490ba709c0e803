// One run with the outline of its steps, which come in pages. What changes while it runs is read again: the run, and
// the pages of which something may still change.
import { api, Problem, type Schema } from '../../api/client'
import { asking } from '../../api/early'
import { atMostEvery, Resource } from '../../live/resource.svelte'
import { stream } from '../../live/stream.svelte'
import { foldsOf, type Item, itemsOf } from './outline'
import { NEAR, type Page, sizesOf } from './paging'

export type RunDetail = Schema<'RunDetail'>
export type Breakdown = Schema<'RunBreakdown'>
export type Step = Schema<'Step'>
/** Fills some screens, and is there at once; src/boot.ts asks for it too. */
const FIRST = 200
const MOST = 5000
/** What a run of so many steps adds up to is there as soon as they are; of a longer one, nothing waits for it. */
const LONG = 5000
const LONG_EVERY = 5000

export class Timeline {
  run: RunDetail | undefined = $state.raw()
  items: Item[] = $state.raw([])
  folds = $derived(foldsOf(this.items))
  /** What the steps add up to. */
  parts: Resource<Breakdown> = new Resource(
    (signal) => api.get('/v1/runs/{run_id}/breakdown', { path: { run_id: this.#id }, signal }),
    { followed: false },
  )
  problem: Problem | null = $state.raw(null)
  busy = $state(false)
  /** Whether the first steps are read. */
  begun = $state(false)
  /** Whether all are. */
  whole = $state(false)

  readonly #id: string
  #pages: Page[] = []
  #abort = new AbortController()
  #began = 0
  #changedMeanwhile = false

  constructor(id: string) {
    this.#id = id
  }

  /** Reads and follows; returns a function that ends both. */
  watch(): () => void {
    void this.load()
    const reread = atMostEvery(800, () => void this.refresh())
    const mine = (run: { id: string }) => {
      if (run.id === this.#id) reread()
    }
    const ends = [
      stream.on({
        'run.ended': mine,
        'step.denied': ({ run }) => mine(run),
        'reviews.changed': ({ run }) => mine(run),
        // Of more than 50 changed runs not all are named.
        'spend.changed': ({ runs }) => {
          if (runs.length === 50 && this.run?.status === 'RUNNING') reread()
          else runs.forEach(mine)
        },
      }),
      stream.onGap(() => {
        if (this.#began > 0 && this.#began < stream.wholeSince) reread()
      }),
    ]
    return () => {
      for (const end of ends) end()
      this.stop()
    }
  }

  stop() {
    this.#abort.abort()
    this.parts.end()
  }

  refetch = () => (this.whole ? this.refresh() : this.load())

  load = () =>
    this.#work(async () => {
      const [asked, began] = asking(() => {
        const page = this.#page(undefined, FIRST).catch((error: unknown) => ({ error }))
        return [this.#run(), page] as const
      })
      this.#began = began
      const adding = this.parts.refetch()
      const [run, first] = await Promise.all(asked)
      if ('error' in first) {
        // What is known of the run is shown without its steps.
        this.run = run
        throw first.error
      }
      this.#pages = [first]
      if (run.step_count <= LONG) await adding
      this.#show(run)
      this.begun = true
      await painted()
      await this.#readOn(MOST, () => this.#show(run))
      await adding
      this.whole = true
      // Shown first, then read again: while the page opened, the stream came between.
      if (this.#began < stream.wholeSince) this.#changedMeanwhile = true
    })

  refresh = async () => {
    // While something is read, what changed meanwhile is read once more afterwards.
    if (this.busy || !this.begun) {
      this.#changedMeanwhile = true
      return
    }
    await this.#work(async () => {
      this.#began = performance.now()
      const long = this.run!.step_count > LONG
      if (long) this.#addSoon()
      const [run] = await Promise.all([this.#run(), this.#reread(), long ? null : this.parts.refetch()])
      this.#show(run)
      if (long && run.ended_at) await this.parts.refetch()
    })
  }

  #show(run: RunDetail) {
    const items = this.#pages.flatMap((page) => page.items)
    // Where no step has changed, nothing is folded and drawn again.
    if (items.length !== this.items.length || items.some((item, i) => item !== this.items[i]))
      this.items = items
    this.run = run
  }

  #run() {
    return api.get('/v1/runs/{run_id}', {
      path: { run_id: this.#id },
      query: { steps_limit: 0 },
      signal: this.#abort.signal,
    })
  }

  #addSoon = atMostEvery(LONG_EVERY, () => void this.parts.refetch())

  /** The pages that follow those that were read. */
  async #readOn(limit: number, show = () => {}) {
    for (let next; (next = this.#pages.at(-1)!.next) !== null;) {
      this.#pages.push(await this.#page(next, limit))
      show()
    }
  }

  /** Reads the pages again of which something may have changed: the last ones, and those with open steps. */
  async #reread() {
    for (let at = 0; at < this.#pages.length; at++) {
      const page = this.#pages[at]!
      const isLast = page.next === null
      const isLate = at >= this.#pages.length - 2 && page.limit <= NEAR
      const open = page.items.findIndex(isOpen)
      if (open < 0 && !isLast && !isLate) continue
      const known = new Map(page.items.map((item) => [item.id, item]))
      const made: Page[] = []
      let cursor = page.cursor
      for (const limit of sizesOf(page, open)) {
        made.push(await this.#page(cursor, limit, known))
        const { next } = made.at(-1)!
        if (next === null) break
        cursor = next
      }
      this.#pages.splice(at, 1, ...made)
      at += made.length - 1
      // What a full page has pushed on is on the next one: those after are read anew.
      if (made.at(-1)!.items.at(-1)?.id !== page.items.at(-1)?.id) this.#pages.length = at + 1
    }
    await this.#readOn(NEAR)
  }

  async #page(cursor: string | undefined, limit: number, known?: Map<string, Item>): Promise<Page> {
    const page = await api.get('/v1/runs/{run_id}/outline', {
      path: { run_id: this.#id },
      query: { cursor, limit },
      signal: this.#abort.signal,
    })
    const items = known ? itemsOf(page).map((item) => same(known.get(item.id), item)) : itemsOf(page)
    return { cursor, limit, items, next: page.next_cursor }
  }

  async #work(read: () => Promise<void>) {
    if (this.busy) return
    this.busy = true
    try {
      await read()
      this.problem = null
    } catch (error) {
      if (this.#abort.signal.aborted) return
      this.problem = error instanceof Problem ? error : new Problem(0, String(error))
    }
    this.busy = false
    if (this.#changedMeanwhile) {
      this.#changedMeanwhile = false
      await this.refresh()
    }
  }
}

/** Comes once the page has been drawn; no later than soon, as hidden windows are not drawn. */
const painted = () =>
  new Promise<void>((done) => {
    requestAnimationFrame(() => setTimeout(done))
    setTimeout(done, 200)
  })

/** Whether a step may still change without the run's going on. */
const isOpen = ({ status }: Item) => status === 'RUNNING' || status === 'WAITING'

/** The step as it was known, where nothing of it has changed: its row is then not drawn again. */
function same(known: Item | undefined, news: Item): Item {
  if (!known) return news
  for (const name of Object.keys(news) as (keyof Item)[]) {
    const [a, b] = [known[name], news[name]]
    if (a !== b && String(a) !== String(b)) return news
  }
  return known
}
