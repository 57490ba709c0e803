// The time axis of a waterfall.
import { duration } from '../../format/time'
import { endOf, type Item } from './outline'

export type Scale = { begin: number; span: number }

const roomFor = (ms: number) => 1.1 ** Math.ceil(Math.log(ms) / Math.log(1.1))

/** When the last of some steps ended, or was asked for. */
export const lastOf = (items: Item[]) => items.reduce((end, item) => Math.max(end, endOf(item, item.at)), 0)

/** From the run's start to its end. While it runs the axis grows by tenths: each change moves every bar. */
export function spanOf(begin: number, ended: number | null, last: number, now: number): number {
  const span = Math.max(1, Math.max(ended ?? now, last) - begin)
  return ended === null ? roomFor(Math.max(1000, span)) : span
}

/** In percent from the left; bars that begin before the run, or end after it, are cut. */
export function place({ begin, span }: Scale, from: number, to: number): { left: number; width: number } {
  const left = Math.min(100, Math.max(0, ((from - begin) / span) * 100))
  const right = Math.min(100, Math.max(left, ((to - begin) / span) * 100))
  return { left, width: right - left }
}

const NICE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 3e4]
const MINUTE = 60_000
const LONG = [1, 2, 5, 10, 20, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14400].map((n) => n * MINUTE)

/** About four marks of an axis, at round times. */
export function marksOf({ span }: Scale): { at: number; label: string }[] {
  const step = [...NICE, ...LONG].find((ms) => span / ms <= 5) ?? span / 4
  const marks = []
  for (let ms = 0; ms < span * 0.86; ms += step)
    marks.push({ at: (ms / span) * 100, label: ms ? duration(ms) : '0 s' })
  return marks
}
