// What a step has used and what it cost, in words.
import type { Money } from '../../api/client'
import { count } from '../../format/count'
import { usd } from '../../format/money'

export type Used = {
  prompt_tokens: number
  completion_tokens: number
  cached_tokens?: number
  cache_write_tokens?: number
  cache_write_1h_tokens?: number
  reasoning_tokens?: number
  cost_usd: Money | null
}

/** All tokens by their kinds: `1,000 in (600 read from a cache), 200 out (150 for reasoning)`. */
export function tokenWords(used: Used): string {
  const {
    cached_tokens = 0,
    cache_write_tokens = 0,
    cache_write_1h_tokens: hour = 0,
    reasoning_tokens = 0,
  } = used
  const written = `${count(cache_write_tokens)} written to one`
  const input = parts([
    [cached_tokens, `${count(cached_tokens)} read from a cache`],
    [cache_write_tokens, hour === 0 ? written : `${written}, ${count(hour)} of them for an hour`],
  ])
  const output = parts([[reasoning_tokens, `${count(reasoning_tokens)} for reasoning`]])
  return `${count(used.prompt_tokens)} in${input} + ${count(used.completion_tokens)} out${output}`
}

/** The same with what it cost; a call can cost something without any tokens. */
export function costWords(used: Used): string {
  if (used.cost_usd === null) return `${tokenWords(used)} = no price`
  const tokens = used.prompt_tokens + used.completion_tokens
  return `${tokens === 0 ? 'the call itself' : tokenWords(used)} = ${usd(used.cost_usd)}`
}

function parts(all: [number, string][]): string {
  const words = all.filter(([n]) => n > 0).map(([, text]) => text)
  return words.length === 0 ? '' : ` (${words.join(', ')})`
}
