// Who decides, and what they are about to say: a draft for each review, so that moving on loses no words.
import { api } from '../api/client'
import { time } from '../live/clock.svelte'
import { world } from '../live/world.svelte'
import { notices } from '../shell/notices.svelte'
import { type NewGrant, type Review, toldOf } from './words'

// A reader's clock may be wrong by minutes, which is all the time that a review has.
const WRONG = 3_000
let ahead = $state(0)

/** The time by which reviews expire: the server's, as far as its answers tell it. */
export const serverTime = {
  get now() {
    return time.now + ahead
  },
  /** Learns from what has just come. */
  learn({ expires_at, seconds_left, status }: Review) {
    if (status !== 'pending' || seconds_left === 0) return
    const by = Date.parse(expires_at) - seconds_left * 1000 - Date.now()
    ahead = Math.abs(by) > WRONG ? by : 0
  },
}

export type Scope = 'once' | NewGrant['scope']

export class Draft {
  note = $state('')
  scope: Scope = $state('once')
  uses = $state('3')
  seconds = $state('600')
  /** What is wrong with the words: an agent that is denied hears why. */
  wrong = $state('')

  grant(): NewGrant | null {
    if (this.scope === 'once') return null
    return { scope: this.scope, seconds: Number(this.seconds), uses: Number(this.uses) }
  }
}

// Nothing follows the map itself, only what is in a draft.
const drafts = new Map<string, Draft>()

export function draftOf(id: string): Draft {
  let draft = drafts.get(id)
  if (!draft) drafts.set(id, (draft = new Draft()))
  return draft
}

/** Gives a verdict and says what has come of it: whoever came second hears who was first. */
export async function decide(
  review: Review,
  wish: 'approve' | 'deny',
  draft: Draft,
  me: string,
): Promise<Review> {
  const path = { review_id: review.id }
  const note = draft.note.trim()
  const grant = draft.grant()
  const answer =
    wish === 'deny'
      ? await api.post('/v1/reviews/{review_id}/deny', { path, body: { note } })
      : await api.post('/v1/reviews/{review_id}/approve', {
          path,
          body: { ...(note && { note }), ...(grant && { grant }) },
        })
  drafts.delete(review.id)
  notices.tell(toldOf(answer, wish, me))
  void world.now.refetch()
  return answer
}
