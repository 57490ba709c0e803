// What waits for a person, oldest first. Nothing in the list moves while somebody is at it: new ones come at its end,
// and what is decided stays in its place, with its outcome, until the pointer and the keys are elsewhere.
import { api, Problem } from '../../api/client'
import { atMostEvery } from '../../live/resource.svelte'
import { stream } from '../../live/stream.svelte'
import { serverTime } from '../../reviews/desk.svelte'
import type { Review } from '../../reviews/words'
import { merged } from './merge'

const PAGE = 200
/** So many are listed; whoever has more decides these first. */
export const MOST = 1000
/** Whether agents still wait is not told by the stream. */
const LOOK_EVERY = 5_000

export class Inbox {
  items: Review[] = $state.raw([])
  state: 'loading' | 'failed' | 'ready' = $state('loading')
  problem: Problem | null = $state.raw(null)
  busy = $state(false)
  /** Whether there are more than are listed. */
  more = $state(false)

  #abort = new AbortController()
  #again = false
  #began = 0
  #held: (review: Review) => boolean

  /** `held` says whether what has ended must stay in its place, because somebody is at it. */
  constructor(held: (review: Review) => boolean) {
    this.#held = held
  }

  /** Reads and follows; returns a function that ends both. */
  watch(): () => void {
    void this.load()
    const soon = atMostEvery(300, () => void this.load())
    const look = setInterval(() => {
      if (!document.hidden && this.items.some(({ status }) => status === 'pending')) soon()
    }, LOOK_EVERY)
    const ends = [
      stream.on({
        'reviews.changed': soon,
        // What ends a run, stops all or changes a policy ends reviews too.
        'run.ended': () => this.items.length && soon(),
        'config.changed': () => this.items.length && soon(),
      }),
      stream.onGap(() => {
        if (this.#began < stream.wholeSince) soon()
      }),
    ]
    return () => {
      clearInterval(look)
      for (const end of ends) end()
      this.#abort.abort()
    }
  }

  load = async () => {
    if (this.busy) {
      this.#again = true
      return
    }
    this.busy = true
    try {
      do {
        this.#again = false
        await this.#read()
      } while (this.#again)
      this.problem = null
      this.state = 'ready'
    } catch (error) {
      if (this.#abort.signal.aborted) return
      this.problem = error instanceof Problem ? error : new Problem(0, String(error))
      if (this.state === 'loading') this.state = 'failed'
    }
    this.busy = false
  }

  async #read() {
    const { signal } = this.#abort
    this.#began = performance.now()
    const pending: Review[] = []
    let cursor: string | undefined
    do {
      const query = { status: 'pending' as const, limit: PAGE, cursor }
      const page = await api.get('/v1/reviews/', { query, signal })
      pending.push(...page.items)
      cursor = page.next_cursor ?? undefined
    } while (cursor && pending.length < MOST)
    if (pending[0]) serverTime.learn(pending[0])
    this.more = cursor !== undefined
    const still = new Set(pending.map(({ id }) => id))
    const gone = this.items.filter(({ id, status }) => status === 'pending' && !still.has(id))
    const ended = await Promise.all(
      gone.map(({ id }) => api.get('/v1/reviews/{review_id}', { path: { review_id: id }, signal })),
    )
    this.items = merged(this.items, [...pending, ...ended], this.#held)
  }

  /** Puts in what a verdict has made of reviews. */
  put(reviews: Review[]) {
    const byId = new Map(reviews.map((review) => [review.id, review]))
    this.items = this.items.map((review) => byId.get(review.id) ?? review)
  }
}
