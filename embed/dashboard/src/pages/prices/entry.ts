// An entry as it is sent to be set, and what tokens would cost by it.
import type { Schema } from '../../api/client'
import { decimalText, Exact, type Money } from '../../api/exact'
import { shift } from '../../format/money'

type Entry = Schema<'ModelPrice'>
type Published = Schema<'PublishedPrice'>
type Body = Schema<'SetModelPriceRequest'>

type Prices = Pick<
  Entry,
  'cached_input_cost_per_token' | 'cache_write_cost_per_token' | 'tiers' | 'cost_per_call'
> & { input_cost_per_token: Money | null; output_cost_per_token: Money | null }

/** All prices of an entry, or the model that it names: what setting it again must not lose. */
export function bodyOf(entry: Entry): Body {
  if (entry.input_cost_per_token === null) return { same_as: entry.same_as! }
  return pricesOf(entry)
}

/** The prices of the catalogue's entry, to be kept as the workspace's own. */
export function bodyOfPublished(published: Published): Body {
  return pricesOf(published)
}

function pricesOf(prices: Prices): Body {
  const text = (value: Money | null | undefined) => (value == null ? undefined : decimalText(value))
  const body: Body = {
    input_cost_per_token: text(prices.input_cost_per_token),
    output_cost_per_token: text(prices.output_cost_per_token),
    cached_input_cost_per_token: text(prices.cached_input_cost_per_token),
    cache_write_cost_per_token: text(prices.cache_write_cost_per_token),
    cost_per_call: text(prices.cost_per_call),
    tiers: prices.tiers?.length
      ? prices.tiers.map((tier) => ({
          above_prompt_tokens: tier.above_prompt_tokens,
          input_cost_per_token: decimalText(tier.input_cost_per_token),
          output_cost_per_token: decimalText(tier.output_cost_per_token),
        }))
      : undefined,
  }
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined))
}

type Used = Pick<Schema<'ModelUsage'>, 'prompt_tokens' | 'completion_tokens' | 'unpriced_tokens'>

/**
 * What a model's tokens without a price would cost by the catalogue: exactly its input and output prices times the
 * tokens where none of them has a price yet, else the same share of both. Null where it costs by the call.
 */
export function estimate(used: Used, price: Published): { usd: Money; exact: boolean } | null {
  if (price.cost_per_call !== undefined) return null
  const all = BigInt(used.prompt_tokens) + BigInt(used.completion_tokens)
  const unpriced = BigInt(used.unpriced_tokens)
  if (all === 0n) return null
  const whole =
    BigInt(used.prompt_tokens) * pico(price.input_cost_per_token) +
    BigInt(used.completion_tokens) * pico(price.output_cost_per_token)
  const exact = all === unpriced
  const amount = exact ? whole : (whole * unpriced) / all
  return { usd: new Exact(decimalText(new Exact(shift(String(amount), -12)))), exact }
}

function pico(value: Money): bigint {
  return BigInt(shift(decimalText(value), 12))
}

/**
 * The models that are used without a price: those with tokens that nothing has priced, and those without an entry of
 * whose price nothing tells, because they reported no tokens or published prices are off.
 */
export function withoutPrice<M extends Used & { model: string }>(
  usage: M[],
  entries: Pick<Schema<'ModelPrice'>, 'model' | 'is_active'>[],
  catalogue: boolean,
): M[] {
  const known = new Set(entries.map(({ model }) => model))
  const active = new Set(entries.filter(({ is_active }) => is_active).map(({ model }) => model))
  const untold = (m: M) => !catalogue || m.prompt_tokens + m.completion_tokens === 0
  return usage.filter((m) =>
    m.unpriced_tokens > 0 ? !active.has(m.model) : !known.has(m.model) && untold(m),
  )
}
