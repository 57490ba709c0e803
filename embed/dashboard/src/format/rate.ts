// Figures of the moment: a rate, and how far it is from the usual.
import { type Money, nano } from '../api/exact'
import type { Schema } from '../api/client'
import { count } from './count'
import { usdInColumn } from './money'

/** Dollars of a moment, of which two or three digits say enough: `$7.60`, `$0.0113`, `$0`. */
export function rate(value: Money): string {
  if (nano(value) === 0n) return '$0'
  return usdInColumn(value, nano(value) >= 10_000_000n ? 2 : 4)
}

/** How many times the usual: `40 ×`, or nothing where none is known or is usual. */
export function times(now: Pick<Schema<'UsageNow'>, 'usd_per_minute' | 'usual_usd_per_minute'>): string {
  const usual = now.usual_usd_per_minute
  if (usual === null || nano(usual) <= 0n) return ''
  const factor = Number(nano(now.usd_per_minute)) / Number(nano(usual))
  return factor < 9.5 ? `${Math.round(factor * 10) / 10} ×` : `${count(Math.round(factor))} ×`
}

/** Two digits are enough for a tab: `$7.6`, `$12`, `$0.02`. */
export function shortRate(value: Money): string {
  const dollars = Number(nano(value)) / 1e9
  if (dollars >= 10) return `$${count(Math.round(dollars))}`
  if (dollars >= 1) return `$${Math.round(dollars * 10) / 10}`
  return rate(value)
}
