// What src/boot.ts has asked for before this code was there, and since when what is read is on its way: an event that
// came since then may be missing in it.

import type { Answer } from '../boot'

/** Who comes later than this wants to know what is new. */
const FRESH = 10_000

let since = Infinity

/** An answer that was asked for already. It is taken once: whoever reads again wants to know what is new. */
export function early(url: string, token: string | null): Promise<Answer> | undefined {
  const asked = window.pikarcEarly
  if (!asked || asked.token !== token || performance.now() - asked.askedAt > FRESH) return undefined
  const answer = asked.answers.get(url)
  if (!answer) return undefined
  asked.answers.delete(url)
  since = Math.min(since, asked.outdated ? -Infinity : asked.askedAt)
  return answer
}

/** Asks, and says since when the answers are on their way: earlier than now where some were asked for before. */
export function asking<T>(ask: () => T): [T, number] {
  since = performance.now()
  return [ask(), since]
}
