import { decimalText, type Money, nano } from '../api/exact'

/**
 * Dollars as people read them: two decimals from $1 up, below it as many as carry value (`$0.00225`), and never
 * `$0.00` for what is not zero.
 */
export function usd(value: Money): string {
  const text = decimalText(value)
  const [whole = '0', fraction = ''] = text.replace('-', '').split('.')
  const sign = text.startsWith('-') ? '-' : ''
  if (whole !== '0') return sign + '$' + cents(value)
  return `${sign}$0.${fraction.padEnd(2, '0')}`
}

function cents(value: Money): string {
  const amount = nano(value)
  return rounded(amount < 0n ? -amount : amount, 2)
}

/** How many decimals the amounts of a column have: 2 where the largest is $1 or more, else 4. */
export type Decimals = 2 | 4

export function decimalsOf(column: Iterable<Money>): Decimals {
  for (const value of column) if (Math.abs(Number(value)) >= 1) return 2
  return 4
}

/** An amount in the one form of its column; what is less than its last digit is `<$0.01`, never zero. */
export function usdInColumn(value: Money, decimals: Decimals): string {
  const amount = nano(value)
  const size = amount < 0n ? -amount : amount
  const least = decimals === 2 ? 10_000_000n : 100_000n
  if (size > 0n && size < least) return `${amount < 0n ? '>-' : '<'}$${rounded(least, decimals)}`
  return `${amount < 0n ? '-' : ''}$${rounded(size, decimals)}`
}

/** An amount beside what it is a part of, in one form with it: `$3.18`, as in `$3.18 of $25.00`. */
export function usdBeside(value: Money, whole: Money | null): string {
  return whole === null || nano(whole) < DOLLAR ? usd(value) : usdInColumn(value, 2)
}

const DOLLAR = 1_000_000_000n

// Half of the last digit rounds up, on whole numbers.
function rounded(size: bigint, decimals: Decimals): string {
  const unit = decimals === 2 ? 10_000_000n : 100_000n
  const [count, whole] = [(size + unit / 2n) / unit, decimals === 2 ? 100n : 10_000n]
  return `${grouped(count / whole)}.${String(count % whole).padStart(decimals, '0')}`
}

/** All digits of an amount, for titles and copies: `$25.043218`. */
export function exactUsd(value: Money): string {
  const [whole = '0', fraction = ''] = decimalText(value).split('.')
  return `$${grouped(BigInt(whole))}.${fraction.padEnd(2, '0')}`
}

/** A price a token as it is stored (`$0.0000025`). */
export function perToken(value: Money): string {
  return '$' + decimalText(value)
}

/** The same price for a million tokens (`$2.50`), the way price lists write it. */
export function perMillion(value: Money): string {
  const [whole = '0', fraction = ''] = shift(decimalText(value), 6).split('.')
  return `$${grouped(BigInt(whole))}.${fraction.padEnd(2, '0')}`
}

/** Moves the decimal point of a number's text to the right, or to the left when negative. */
export function shift(text: string, places: number): string {
  const [whole = '0', fraction = ''] = text.split('.')
  if (places >= 0) {
    const moved = fraction.padEnd(places, '0')
    return clean(whole + moved.slice(0, places), moved.slice(places))
  }
  const padded = whole.padStart(1 - places, '0')
  return clean(padded.slice(0, places), padded.slice(places) + fraction)
}

function clean(whole: string, fraction: string): string {
  const left = whole.replace(/^0+(?=\d)/, '')
  const right = fraction.replace(/0+$/, '')
  return right ? `${left}.${right}` : left
}

function grouped(whole: bigint): string {
  return whole.toString().replace(/\B(?=(\d{3})+$)/g, ',')
}

/** How much of a limit is used, from 0; above 1 when it was passed. */
export function share(used: Money, limit: Money): number {
  const whole = nano(limit)
  if (whole === 0n) return 1
  return Number((nano(used) * 10_000n) / whole) / 10_000
}
