// How a figure differs from the one before, and what part of a whole it is: with its sign and in words, never by colour
// alone.
import { fromNano, type Money, nano } from '../api/exact'
import { count } from './count'
import { type Decimals, usdInColumn } from './money'

export const difference = (now: Money, before: Money): Money => fromNano(nano(now) - nano(before))

/** `+$6.58`, `−$0.28`, `$0.00`. */
export function signedUsd(value: Money, decimals: Decimals): string {
  const amount = nano(value)
  if (amount === 0n) return usdInColumn(value, decimals)
  return (amount > 0n ? '+' : '−') + usdInColumn(fromNano(amount > 0n ? amount : -amount), decimals)
}

/** `+50 %`, `−5 %`, `±0 %`; from ten times on `× 56`; `new` where there was nothing before. */
export function changeOf(now: Money, before: Money): string {
  const [a, b] = [nano(now), nano(before)]
  if (b <= 0n) return a > 0n ? 'new' : ''
  if (a === b) return '±0 %'
  if (a >= b * 10n) return `× ${count(Number((a * 2n + b) / (b * 2n)))}`
  const thousandths = Number(((a - b) * 1000n) / b)
  const sign = a > b ? '+' : '−'
  const size = Math.abs(thousandths)
  return size < 5 ? `${sign}<1 %` : `${sign}${count(Math.round(size / 10))} %`
}

/** As a sentence says it: `38 % more than`, `56 times`, `as much as`. */
export function inWords(now: Money, before: Money): { figure: string; rest: string } {
  const text = changeOf(now, before)
  if (text === '±0 %' || text === '') return { figure: 'as much', rest: ' as' }
  if (text.startsWith('×')) return { figure: text.slice(2) + ' times', rest: '' }
  return { figure: `${text.slice(1)} ${text.startsWith('+') ? 'more' : 'less'}`, rest: ' than' }
}

/** A share of a column, with one decimal: `70.4 %`, `<0.1 %`; nothing of nothing. */
export function shareOf(part: Money, whole: Money): string {
  const [a, b] = [nano(part), nano(whole)]
  if (b === 0n) return ''
  const tenths = Number((a * 2000n + b) / (2n * b))
  return a > 0n && tenths === 0 ? '<0.1 %' : `${(tenths / 10).toFixed(1)} %`
}

/** A share that stands alone: `13 %`, `<1 %`, `>99 %`; no more and no less is all and nothing. */
export function percent(part: number): string {
  const whole = Math.round(part * 100)
  if (whole === 0 && part > 0) return '<1 %'
  if (whole === 100 && part < 1) return '>99 %'
  return `${count(whole)} %`
}
