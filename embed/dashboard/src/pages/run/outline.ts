// The steps of a run as its waterfall draws them: one row a step, repeats folded, those at the same time told.
import { fromNano, type Money, nano } from '../../api/exact'
import type { Schema } from '../../api/client'

export type Item = {
  id: string
  sequence: number
  type: Schema<'StepType'>
  status: Schema<'StepStatus'>
  model: string | null
  tool: string | null
  /** When it was asked for. */
  at: number
  /** Null while it runs, or where nobody said. */
  took: number | null
  tokensIn: number
  tokensOut: number
  cost: Money | null
  reason: Schema<'RunOutline'>['deny_reasons'][number]
  input: string | null
}

/** The steps of a page, which comes in columns. */
export function itemsOf(page: Schema<'RunOutline'>): Item[] {
  return page.ids.map((id, i) => ({
    id,
    sequence: page.sequences[i]!,
    type: page.types[i]!,
    status: page.statuses[i]!,
    model: page.models[i]!,
    tool: page.tool_names[i]!,
    at: page.created_ms[i]!,
    took: page.durations_ms[i]!,
    tokensIn: page.prompt_tokens[i]!,
    tokensOut: page.completion_tokens[i]!,
    cost: page.costs_usd[i]!,
    reason: page.deny_reasons[i]!,
    input: page.inputs[i]!,
  }))
}

export const isProblem = (item: Item) => item.status === 'BLOCKED' || item.status === 'FAILED'
export const isCall = (item: Item) => item.type === 'MODEL_CALL' || item.type === 'TOOL_CALL'

export type Fold = {
  /** How many steps a round has, and how many rounds there are. */
  period: number
  times: number
}

/** What a row shows: a step, or repeats of a few. Both ends are places among the steps. */
export type Row = { first: number; last: number; fold: Fold | null }

const LONGEST_ROUND = 3
const FEWEST = 3

/** Whether two steps are the same call; `same` says that what was sent is the same too. */
function alike(a: Item, b: Item): 'no' | 'same' | 'other input' {
  if (a.type !== b.type || a.model !== b.model || a.tool !== b.tool) return 'no'
  if (isProblem(a) || isProblem(b) || !isCall(a)) return 'no'
  if (a.input !== null && a.input === b.input) return 'same'
  // A conversation grows with each round: the model is asked again, with what came since.
  return a.type === 'MODEL_CALL' ? 'other input' : 'no'
}

/** The repeats that begin at a step: rounds of one to three calls, at least three times, with the same input. */
export function foldAt(items: Item[], start: number): Fold | null {
  for (let period = 1; period <= LONGEST_ROUND; period++) {
    // A bit for each call of the round whose input differs.
    const all = (1 << period) - 1
    let drifts = 0
    let at = start
    for (; at + period < items.length; at++) {
      const kind = alike(items[at]!, items[at + period]!)
      if (kind === 'no') break
      if (kind === 'same') continue
      // Where no call of the round would be left that has the same input, the repeats end.
      drifts |= 1 << ((at - start) % period)
      if (drifts === all) break
    }
    const times = Math.floor((at - start) / period) + 1
    if (times >= FEWEST && drifts !== all) return { period, times }
  }
  return null
}

/** All repeats of a run, by the step they begin at. */
export function foldsOf(items: Item[]): Map<number, Fold> {
  const folds = new Map<number, Fold>()
  for (let at = 0; at < items.length;) {
    const fold = foldAt(items, at)
    if (fold) folds.set(at, fold)
    at += fold ? fold.period * fold.times : 1
  }
  return folds
}

/** The rows of all steps; the steps of an open fold follow it. */
export function rowsOf(items: Item[], folds: Map<number, Fold>, open: ReadonlySet<string>): Row[] {
  const rows: Row[] = []
  for (let at = 0; at < items.length;) {
    const fold = folds.get(at)
    if (!fold) {
      rows.push({ first: at, last: at, fold: null })
      at++
      continue
    }
    const last = at + fold.period * fold.times - 1
    rows.push({ first: at, last, fold })
    if (open.has(items[at]!.id)) {
      for (let i = at; i <= last; i++) rows.push({ first: i, last: i, fold: null })
    }
    at = last + 1
  }
  return rows
}

/** The rows of those steps alone that are asked for. */
export function rowsWhere(items: Item[], wanted: (item: Item) => boolean): Row[] {
  const rows: Row[] = []
  items.forEach((item, i) => wanted(item) && rows.push({ first: i, last: i, fold: null }))
  return rows
}

/** Where in a bracket of steps at the same time each step stands. */
export type Lane = 'first' | 'mid' | 'last' | null

export function lanesOf(items: Item[], now: number): Lane[] {
  const lanes: Lane[] = new Array<Lane>(items.length).fill(null)
  let begin = 0
  let end = -Infinity
  const close = (until: number) => {
    if (until - begin < 2) return
    for (let i = begin; i < until; i++) lanes[i] = i === begin ? 'first' : i === until - 1 ? 'last' : 'mid'
  }
  items.forEach((item, i) => {
    if (item.at >= end) {
      close(i)
      begin = i
      end = -Infinity
    }
    end = Math.max(end, endOf(item, now))
  })
  close(items.length)
  return lanes
}

export function endOf(item: Item, now: number): number {
  return (
    item.at +
    (item.took ?? (item.status === 'RUNNING' || item.status === 'WAITING' ? Math.max(0, now - item.at) : 0))
  )
}

/** What each of some steps cost, where that is known. */
export function* costsOf(items: Item[]): Generator<Money> {
  for (const { cost } of items) if (cost !== null) yield cost
}

/** What some steps cost together, exactly; null where none of them has a price. */
export function costOf(items: Item[], first: number, last: number): Money | null {
  let sum: bigint | null = null
  // Thousands are added as numbers, which are as exact up to here, and much faster.
  let small = 0
  for (let i = first; i <= last; i++) {
    const cost = items[i]!.cost
    if (cost === null) continue
    sum ??= 0n
    if (typeof cost === 'number' && cost < 1e5) small += Math.round(cost * 1e9)
    else sum += nano(cost)
    if (small > 2 ** 52) {
      sum += BigInt(small)
      small = 0
    }
  }
  return sum === null ? null : fromNano(sum + BigInt(small))
}

/** The row that a step is in, or -1: that of the step itself where its fold is open. */
export function rowWith(rows: Row[], place: number): number {
  let found = -1
  rows.forEach(({ first, last, fold }, i) => {
    if (first <= place && place <= last && (found < 0 || !fold)) found = i
  })
  return found
}
