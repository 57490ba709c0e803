// Spend of which a part is not known: tokens of models without a price are in no total, and are never written as $0.00.
import { type Money, nano } from '../api/exact'
import { tokens } from './count'
import { type Decimals, usd, usdInColumn } from './money'

export const NO_PRICE = 'no price'

/** For a cell: `$0.12`, `$0.12 + no price`, or `no price` alone; in the form of its column where that is told. */
export function spend(known: Money, unpriced: number, decimals?: Decimals): string {
  const text = decimals ? usdInColumn(known, decimals) : usd(known)
  if (unpriced === 0) return text
  return nano(known) === 0n ? NO_PRICE : `${text} + ${NO_PRICE}`
}

/** For a sentence: `$3.18 of $25.00 spent today`, with what no price is known for behind it, or before it. */
export function spentToday(known: Money, unpriced: number, budget: Money | null): string {
  const spent = `${usd(known)}${budget === null ? '' : ` of ${usd(budget)}`} spent today`
  if (unpriced === 0) return spent
  const more = `${tokens(unpriced)} tokens without a price`
  if (nano(known) > 0n) return `${spent} and ${more}`
  return budget === null ? `${more} today` : `${more} today, of a budget of ${usd(budget)}`
}
