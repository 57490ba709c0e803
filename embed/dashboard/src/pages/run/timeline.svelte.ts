// One run with the outline of its steps, which come in pages. What changes while it runs is read again: the run, and
// the pages of which something may still change.
import { api, Problem, type Schema } from '../../api/client'
import { atMostEvery } from '../../live/resource.svelte'
import { stream } from '../../live/stream.svelte'
import { type Item, itemsOf } from './outline'

export type RunDetail = Schema<'RunDetail'>
export type Breakdown = Schema<'RunBreakdown'>
export type Step = Schema<'Step'>
type Page = { cursor: string | undefined; limit: number; items: Item[]; next: string | null }

/** Fills some screens, and is there at once; src/boot.ts asks for it too. */
const FIRST = 200
const MOST = 5000

export class Timeline {
  run: RunDetail | undefined = $state.raw()
  items: Item[] = $state.raw([])
  parts: Breakdown | undefined = $state.raw()
  problem: Problem | null = $state.raw(null)
  busy = $state(false)
  /** Whether all steps are read. */
  whole = $state(false)

  #id: string
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
  }

  load = () =>
    this.#work(async () => {
      await stream.ready
      this.#began = performance.now()
      const [run, parts] = await Promise.all([
        this.#run(),
        this.#breakdown(),
        this.#read(0, undefined, FIRST),
      ])
      this.#show(run, parts)
      while (this.#pages.at(-1)!.next !== null) {
        await this.#read(this.#pages.length, this.#pages.at(-1)!.next!, MOST)
        this.#show(run, parts)
      }
      this.whole = true
    })

  refresh = async () => {
    // While something is read, what changed meanwhile is read once more afterwards.
    if (this.busy || !this.run) {
      this.#changedMeanwhile = true
      return
    }
    await this.#work(async () => {
      await stream.ready
      this.#began = performance.now()
      const last = this.#pages.length - 1
      const stale = this.#pages.flatMap(({ items }, at) => (at === last || items.some(isOpen) ? [at] : []))
      const [run, parts] = await Promise.all([
        this.#run(),
        this.#breakdown(),
        ...stale.map((at) => this.#read(at, this.#pages[at]!.cursor, this.#pages[at]!.limit)),
      ])
      while (this.#pages.at(-1)!.next !== null)
        await this.#read(this.#pages.length, this.#pages.at(-1)!.next!, MOST)
      this.#show(run, parts)
    })
  }

  #show(run: RunDetail, parts: Breakdown) {
    // A step that came in among those before may be on two pages, until both are read.
    const byId = new Map(this.#pages.flatMap(({ items }) => items).map((item) => [item.id, item]))
    const items = [...byId.values()]
    // Where no step has changed, nothing is folded and drawn again.
    if (items.length !== this.items.length || items.some((item, i) => item !== this.items[i]))
      this.items = items
    this.run = run
    this.parts = parts
  }

  #run() {
    return api.get('/v1/runs/{run_id}', {
      path: { run_id: this.#id },
      query: { steps_limit: 0 },
      signal: this.#abort.signal,
    })
  }

  #breakdown() {
    return api.get('/v1/runs/{run_id}/breakdown', { path: { run_id: this.#id }, signal: this.#abort.signal })
  }

  async #read(at: number, cursor: string | undefined, limit: number) {
    const page = await api.get('/v1/runs/{run_id}/outline', {
      path: { run_id: this.#id },
      query: { cursor, limit },
      signal: this.#abort.signal,
    })
    const before = this.#pages[at]?.items ?? []
    const known = new Map(before.map((item) => [item.id, item]))
    const items = itemsOf(page).map((item) => same(known.get(item.id), item))
    this.#pages[at] = { cursor, limit, items, next: page.next_cursor }
    // What a full page has pushed on is on the next one: those after are read anew.
    if (before.length && before.at(-1)!.id !== items.at(-1)?.id) this.#pages.length = at + 1
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

/** Whether a step may still change without the run's going on. */
const isOpen = ({ status }: Item) => status === 'RUNNING' || status === 'WAITING'

/** The step as it was known, where nothing of it has changed: its row is then not drawn again. */
function same(known: Item | undefined, news: Item): Item {
  if (!known) return news
  for (const name of Object.keys(news) as (keyof Item)[]) {
    if (String(known[name]) !== String(news[name])) return news
  }
  return known
}
