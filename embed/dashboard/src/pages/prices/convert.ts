// A price for one token and for a million, exactly: no number of JavaScript's ever holds one.
import { shift } from '../../format/money'
import { decimalOf } from '../../format/typed'

const MILLION = 6
const MAX_DECIMALS = 12
const LARGEST = 1_000_000n

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

/** Whether a price for one token was probably meant for a million: more than $0.01, as the server warns of too. */
export function likelyPerMillion(perToken: string): boolean {
  const [whole = '0', fraction = ''] = (decimalOf(perToken) ?? '0').split('.')
  return BigInt(whole + fraction.padEnd(30, '0')) > 10n ** 28n
}
