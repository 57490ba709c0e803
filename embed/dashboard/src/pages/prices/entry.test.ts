import { describe, expect, test } from 'vitest'
import { decimalText } from '../../api/exact'
import { bodyOf, bodyOfPublished, estimate, withoutPrice } from './entry'

const id = '01a1ab94-8600-7c31-9f0a-6a1f0b8e4d52'
const published = {
  model: 'gpt-4o',
  provider: 'openai',
  names: ['gpt-4o'],
  input_cost_per_token: 0.0000025,
  output_cost_per_token: 0.00001,
  cached_input_cost_per_token: 0.00000125,
  tiers: [],
  effective_from: null,
  next_change: null,
}

describe('an entry that is set again', () => {
  test('keeps every price', () =>
    expect(
      bodyOf({
        id,
        model: 'm',
        is_active: true,
        input_cost_per_token: 3e-7,
        output_cost_per_token: 1,
        cache_write_cost_per_token: 2,
        cost_per_call: 0.01,
        tiers: [{ above_prompt_tokens: 200000, input_cost_per_token: 6e-7, output_cost_per_token: 2 }],
      }),
    ).toEqual({
      input_cost_per_token: '0.0000003',
      output_cost_per_token: '1',
      cache_write_cost_per_token: '2',
      cost_per_call: '0.01',
      tiers: [{ above_prompt_tokens: 200000, input_cost_per_token: '0.0000006', output_cost_per_token: '2' }],
    }))

  test('keeps the model that it names', () =>
    expect(
      bodyOf({
        id,
        model: 'm',
        is_active: true,
        input_cost_per_token: null,
        output_cost_per_token: null,
        same_as: 'gpt-4o',
      }),
    ).toEqual({ same_as: 'gpt-4o' }))

  test('takes the prices of the catalogue', () =>
    expect(bodyOfPublished(published)).toEqual({
      input_cost_per_token: '0.0000025',
      output_cost_per_token: '0.00001',
      cached_input_cost_per_token: '0.00000125',
    }))
})

describe('what tokens would cost', () => {
  test.each([
    // 1,000 × 2.5 µ$ + 100 × 10 µ$
    [{ prompt_tokens: 1000, completion_tokens: 100, unpriced_tokens: 1100 }, '0.0035', true],
    // Half of them have a price: half of it.
    [{ prompt_tokens: 1000, completion_tokens: 100, unpriced_tokens: 550 }, '0.00175', false],
  ])('%o', (used, usd, exact) => {
    const got = estimate(used, published)!
    expect([decimalText(got.usd), got.exact]).toEqual([usd, exact])
  })

  test('is not known by the call', () =>
    expect(
      estimate(
        { prompt_tokens: 1, completion_tokens: 1, unpriced_tokens: 2 },
        { ...published, cost_per_call: 1 },
      ),
    ).toBeNull())
})

test('a model that the catalogue prices is not without a price', () => {
  const usage = [
    { model: 'published', unpriced_tokens: 0, prompt_tokens: 7, completion_tokens: 0 },
    { model: 'silent', unpriced_tokens: 0, prompt_tokens: 0, completion_tokens: 0 },
    { model: 'unknown', unpriced_tokens: 7, prompt_tokens: 7, completion_tokens: 0 },
    { model: 'priced since', unpriced_tokens: 7, prompt_tokens: 7, completion_tokens: 0 },
    { model: 'switched off', unpriced_tokens: 7, prompt_tokens: 7, completion_tokens: 0 },
  ]
  const entries = [
    { model: 'priced since', is_active: true },
    { model: 'switched off', is_active: false },
  ]
  const names = (catalogue: boolean) => withoutPrice(usage, entries, catalogue).map(({ model }) => model)
  expect(names(true)).toEqual(['silent', 'unknown', 'switched off'])
  expect(names(false)).toEqual(['published', 'silent', 'unknown', 'switched off'])
})
