import { describe, expect, it } from 'vitest'
import { costWords, tokenWords, type Used } from './used'

const used = (more: Partial<Used>): Used => ({
  prompt_tokens: 1000,
  completion_tokens: 200,
  cost_usd: null,
  ...more,
})

describe('what a step has used', () => {
  it.each<[Partial<Used>, string]>([
    [{}, '1,000 in + 200 out'],
    [{ cached_tokens: 600 }, '1,000 in (600 read from a cache) + 200 out'],
    [{ cache_write_tokens: 300 }, '1,000 in (300 written to one) + 200 out'],
    [
      { cached_tokens: 600, cache_write_tokens: 300, cache_write_1h_tokens: 100, reasoning_tokens: 150 },
      '1,000 in (600 read from a cache, 300 written to one, 100 of them for an hour) + 200 out (150 for reasoning)',
    ],
  ])('%o', (more, words) => {
    expect(tokenWords(used(more))).toBe(words)
  })

  it('says what it cost, and never $0.00 where nothing is known', () => {
    expect(costWords(used({ cost_usd: 0.0125 }))).toBe('1,000 in + 200 out = $0.0125')
    expect(costWords(used({}))).toBe('1,000 in + 200 out = no price')
  })

  it('says that a call costs something without tokens', () => {
    const call = { prompt_tokens: 0, completion_tokens: 0, cost_usd: 0.005 }
    expect(costWords(used(call))).toBe('the call itself = $0.005')
  })
})
