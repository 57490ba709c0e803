// What the limits page sends and says. Whether the server takes it is the server's to tell; this only turns what is
// typed into what the API takes, and what the plan lacks into a sentence.
import type { Schema } from '../../api/client'
import { Exact, fromNano, type Money, nano } from '../../api/exact'
import { decimalOf } from '../../format/typed'

export type Workspace = Schema<'Workspace'>
export type Change = Partial<Record<Name, string | number | null>>

/** A field of the workspace that this page changes. */
export type Name =
  'daily_budget_usd' | 'user_daily_budget_usd' | 'max_concurrent_runs' | 'run_idle_timeout_seconds'

const whole = /^\d{1,15}$/

/** What is wrong with a text before it is sent, or nothing. */
export function wrong(name: Name, text: string): string | undefined {
  if (isMoney(name))
    return decimalOf(text) === null ? 'Write an amount in dollars, such as 25 or 2.50.' : undefined
  return whole.test(text) ? undefined : 'Write a whole number.'
}

/** The change that sets a field to a checked text; an amount goes as text, so that no digit is lost. */
export function change(name: Name, text: string): Change {
  return { [name]: isMoney(name) ? decimalOf(text) : Number(text) }
}

export function isMoney(name: Name): boolean {
  return name.endsWith('_usd')
}

/** The amount that is typed; null for none, undefined where it cannot be read. */
export function amountOf(text: string): Money | null | undefined {
  if (!text.trim()) return null
  const decimal = decimalOf(text)
  return decimal === null ? undefined : new Exact(decimal)
}

type Spent = Pick<Schema<'DayUsage'>, 'total_usd'>

/** What a daily budget would have come to in some days. */
export function budgetIn(days: Spent[], budget: Money): { reached: number; over: Money; spent: Money } {
  const most = nano(budget)
  let [reached, over, spent] = [0, 0n, 0n]
  for (const { total_usd } of days) {
    const used = nano(total_usd)
    spent += used
    if (used >= most && used > 0n) reached++
    if (used > most) over += used - most
  }
  return { reached, over: fromNano(over), spent: fromNano(spent) }
}

/** Whether a budget that is saved now refuses at once what was allowed before. */
export function refusesAtOnce(spent: Money, stored: Money | null, budget: Money | null | undefined): boolean {
  if (budget === null || budget === undefined) return false
  const used = nano(spent)
  return used >= nano(budget) && (stored === null || used < nano(stored))
}

/** Why a plan's workspace cannot change something, with the plans that can; null where it can. */
export function missing(
  workspace: Workspace,
  feature: 'user_daily_budget' | 'configurable_concurrency',
): string | null {
  if (workspace.features[feature]) return null
  return feature === 'user_daily_budget'
    ? 'The Pro, Scale and Enterprise plans have a budget for each user.'
    : 'The Pro, Scale and Enterprise plans let you choose this.'
}

type Spender = Pick<Schema<'User'>, 'user_id' | 'today_usd' | 'today_unpriced_tokens'>

/** Who has spent most today, to the last billionth; nobody when nothing was spent. */
export function dearestToday<U extends Spender>(users: U[]): U | undefined {
  let most: U | undefined
  for (const user of users) if (nano(user.today_usd) > (most ? nano(most.today_usd) : 0n)) most = user
  return most
}
