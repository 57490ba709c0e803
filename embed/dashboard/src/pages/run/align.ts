// Two runs side by side: which steps are the same call, what differs.
import type { Item } from './outline'

/** Places in both runs; -1 where one has no such step. */
export type Pair = [mine: number, other: number]

/** Runs that differ more than so are compared step by step, without looking for what was left out. */
const MOST_EDITS = 600

const name = (item: Item) => `${item.type} ${item.model ?? ''} ${item.tool ?? ''}`

/** The shortest way to make one list of calls the other (Myers): what is the same stands beside each other. */
export function align(a: Item[], b: Item[]): Pair[] {
  const mine = a.map(name)
  const other = b.map(name)
  const most = Math.min(mine.length + other.length, MOST_EDITS)
  const width = 2 * most + 3
  const reach = new Int32Array(width)
  const trace: Int32Array[] = []
  for (let edits = 0; edits <= most; edits++) {
    trace.push(reach.slice())
    for (let k = -edits; k <= edits; k += 2) {
      const down = k === -edits || (k !== edits && reach[most + k]! < reach[most + k + 2]!)
      let x = down ? reach[most + k + 2]! : reach[most + k]! + 1
      let y = x - k
      while (x < mine.length && y < other.length && mine[x] === other[y]) {
        x++
        y++
      }
      reach[most + k + 1] = x
      if (x >= mine.length && y >= other.length) return walk(trace, most, mine.length, other.length)
    }
  }
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i): Pair => [
    i < a.length ? i : -1,
    i < b.length ? i : -1,
  ])
}

function walk(trace: Int32Array[], most: number, x: number, y: number): Pair[] {
  const pairs: Pair[] = []
  for (let edits = trace.length - 1; edits >= 0; edits--) {
    const reach = trace[edits]!
    const k = x - y
    const down = k === -edits || (k !== edits && reach[most + k]! < reach[most + k + 2]!)
    const before = down ? k + 1 : k - 1
    const fromX = edits === 0 ? 0 : reach[most + before + 1]!
    const fromY = edits === 0 ? 0 : fromX - before
    while (x > fromX && y > fromY) pairs.push([--x, --y])
    if (edits === 0) break
    if (x > fromX) pairs.push([--x, -1])
    else if (y > fromY) pairs.push([-1, --y])
  }
  return pairs.reverse()
}

/** How two steps that stand beside each other differ; null where they do not. */
export function differs(mine: Item | undefined, other: Item | undefined): string | null {
  if (!mine) return 'only in the other run'
  if (!other) return 'only in this run'
  if (name(mine) !== name(other)) return 'another call'
  if (mine.status !== other.status) return 'another outcome'
  if (mine.input !== other.input) return 'another input'
  return null
}
