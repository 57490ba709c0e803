// Prices as people type them, to exact decimal text and back. No number of JavaScript's ever holds one.
import { decimalText, Exact } from '../../api/exact'
import { shift } from '../../format/money'

const MILLION = 6
const MAX_DECIMALS = 12
const LARGEST = 1_000_000n

/** The plain decimal digits of what was typed (`$2.50`, `.5`, `1,000`, `2.5e-6`); null when it is no amount. */
export function decimalOf(typed: string): string | null {
  const text = typed.trim().replace(/^\$\s*/, '')
  const whole = /^\d{1,3}(,\d{3})+(\.\d*)?$/.test(text) ? text.replaceAll(',', '') : text
  const match = /^(\d*)(\.\d*)?(e[+-]?\d{1,2})?$/i.exec(whole)
  if (!match || !/\d/.test(match[1]! + (match[2] ?? ''))) return null
  return decimalText(new Exact((match[1] || '0') + (match[2] ?? '') + (match[3] ?? '')))
}

/** What a million tokens cost, of what one costs; empty when that is no amount. */
export function toMillion(perToken: string): string {
  const text = decimalOf(perToken)
  return text === null ? '' : shift(text, MILLION)
}

/** What one token costs, of what a million cost; empty when that is no amount. */
export function toToken(perMillion: string): string {
  const text = decimalOf(perMillion)
  return text === null ? '' : shift(text, -MILLION)
}

/** What is wrong with a price for one token, in words; empty when nothing is. */
export function priceProblem(perToken: string): string {
  const text = decimalOf(perToken)
  if (text === null) return 'A number, such as 2.50.'
  const [whole = '0', fraction = ''] = text.split('.')
  if (fraction.length > MAX_DECIMALS) return 'At most 6 decimals for a million tokens, which are 12 for one.'
  const beyond = BigInt(whole) > LARGEST || (BigInt(whole) === LARGEST && fraction !== '')
  return beyond ? 'At most $1,000,000 a token.' : ''
}
