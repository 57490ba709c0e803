// One run with its steps, which come in pages. What changes while it runs is read again: the last page, and those
// with steps that were still running.
import { api, Problem, type Schema } from '../../api/client'
import { atMostEvery } from '../../live/resource.svelte'
import { stream } from '../../live/stream.svelte'
import { router } from '../../shell/router.svelte'

export type RunDetail = Schema<'RunDetail'>
export type Step = Schema<'Step'>
type Page = { cursor: string | undefined; steps: Step[]; next: string | null }

export class Detail {
  run: RunDetail | undefined = $state.raw()
  steps: Step[] = $state.raw([])
  problem: Problem | null = $state.raw(null)
  busy = $state(false)
  hasMore = $state(false)

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
    const reread = atMostEvery(500, () => void this.refresh())
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
      this.#abort.abort()
    }
  }

  /** Reads as many pages as were read when one left. */
  load = () =>
    this.#work(async () => {
      const pages = router.place.kept<number>('steps') ?? 1
      let next: string | null | undefined
      for (let at = 0; at < pages && next !== null; at++) {
        await this.#read(at, next)
        next = this.#pages[at]!.next
      }
    })

  more = () => {
    const next = this.#pages.at(-1)?.next
    if (!next) return Promise.resolve()
    return this.#work(async () => {
      await this.#read(this.#pages.length, next)
      router.place.keep('steps', this.#pages.length)
    })
  }

  refresh = async () => {
    // While something is read, what changed meanwhile is read once more afterwards.
    if (this.busy) {
      this.#changedMeanwhile = true
      return
    }
    await this.#work(async () => {
      const last = this.#pages.length - 1
      const stale = this.#pages.flatMap(({ steps }, at) =>
        at === last || steps.some(({ status }) => status === 'RUNNING') ? [at] : [],
      )
      for (const at of stale.length ? stale : [0]) await this.#read(at, this.#pages[at]?.cursor)
    })
  }

  async #read(at: number, cursor: string | undefined) {
    await stream.ready
    this.#began = performance.now()
    const run = await api.get('/v1/runs/{run_id}', {
      path: { run_id: this.#id },
      query: { steps_cursor: cursor },
      signal: this.#abort.signal,
    })
    const known = new Map(this.steps.map((step) => [step.id, step]))
    this.#pages[at] = {
      cursor,
      steps: run.steps.map((step) => same(known.get(step.id), step)),
      next: run.next_steps_cursor,
    }
    this.run = run
    this.steps = [
      ...new Map(this.#pages.flatMap(({ steps }) => steps).map((step) => [step.id, step])).values(),
    ]
    this.hasMore = this.#pages.at(-1)!.next !== null
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

/** The step as it was known, where nothing of it has changed: its row is then not drawn again. */
function same(known: Step | undefined, news: Step): Step {
  return known && JSON.stringify(known) === JSON.stringify(news) ? known : news
}
