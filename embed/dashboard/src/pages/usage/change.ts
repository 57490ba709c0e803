// How a figure differs from the one before, with its sign and in words, never by colour alone.
import { fromNano, type Money, nano } from '../../api/exact'
import { type Decimals, usdInColumn } from '../../format/money'

export const difference = (now: Money, before: Money): Money => fromNano(nano(now) - nano(before))

/** `+$6.58`, `−$0.28`, `$0.00`. */
export function signedUsd(value: Money, decimals: Decimals): string {
  const amount = nano(value)
  if (amount === 0n) return usdInColumn(value, decimals)
  return (amount > 0n ? '+' : '−') + usdInColumn(fromNano(amount > 0n ? amount : -amount), decimals)
}

/** `+50 %`, `−5 %`; from ten times on `× 56`; `new` where there was nothing before. */
export function percent(now: Money, before: Money): string {
  const [a, b] = [nano(now), nano(before)]
  if (a === b) return '0 %'
  if (b === 0n) return 'new'
  if (a >= b * 10n) return `× ${Number((a * 10n) / b / 10n)}`
  const parts = rounded((a - b) * 1000n, b)
  const size = Math.abs(parts)
  if (size < 5) return a > b ? '+<1 %' : '−<1 %'
  return `${a > b ? '+' : '−'}${Math.round(size / 10)} %`
}

const rounded = (part: bigint, whole: bigint) => Number(part / whole)

/** As a sentence says it: `38 % more than`, `56 times`, `as much as`. */
export function inWords(now: Money, before: Money): { figure: string; rest: string } {
  const text = percent(now, before)
  if (text === '0 %') return { figure: 'as much', rest: ' as' }
  if (text.startsWith('×')) return { figure: text.slice(2) + ' times', rest: '' }
  return { figure: `${text.slice(1)} ${text.startsWith('+') ? 'more' : 'less'}`, rest: ' than' }
}

/** A share with one decimal: `70.4 %`, `<0.1 %`. */
export function shareOf(part: Money, whole: Money): string {
  const [a, b] = [nano(part), nano(whole)]
  if (b === 0n) return ''
  const tenths = Number((a * 2000n + b) / (2n * b))
  return a > 0n && tenths === 0 ? '<0.1 %' : `${(tenths / 10).toFixed(1)} %`
}
