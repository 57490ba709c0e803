import { describe, expect, test } from 'vitest'
import { Exact } from '../../api/exact'
import {
  about,
  bodyOf,
  differences,
  draftOf,
  fileOf,
  hitsOf,
  period,
  type Policy,
  READY,
  scopePath,
  usedOf,
  type Body,
} from './policies'

const full: Body = {
  name: 'refunds',
  description: 'Large ones',
  enabled: false,
  priority: 7,
  match: { types: ['TOOL_CALL'], tools: ['refund*', 'pay'], users: ['acme/*'], tags: { agent: 'billing' } },
  when: 'usd(input.amount) > usd(100)',
  limit: { measure: 'calls', per: 'user', window: 'hour', amount: 3, rolling: true },
  effect: 'review',
  message: 'Ask',
  review: { expires_seconds: 60, approvals: 1, on_expiry: 'deny' },
}

describe('the form', () => {
  test('sends what it was given', () => {
    expect(bodyOf(draftOf(full))).toEqual({
      ...full,
      limit: { ...full.limit, amount: '3' },
      review: { expires_seconds: 60 },
    })
  })

  test('loses no digit of an amount', () => {
    const amount = new Exact('123456789.123456789') as unknown as number
    const body = bodyOf(draftOf({ ...full, limit: { ...full.limit!, measure: 'usd', amount } }))
    expect(body.limit!.amount).toBe('123456789.123456789')
  })

  test('leaves out what is empty, and sends what it cannot read as it is', () => {
    const draft = { ...draftOf({ name: 'x', effect: 'deny' }), priority: 'high', when: '  ' }
    expect(bodyOf(draft)).toEqual({
      name: 'x',
      description: '',
      enabled: true,
      priority: 'high',
      match: {},
      effect: 'deny',
      message: '',
    })
    expect(bodyOf({ ...draft, measure: 'usd', amount: 'much' }).limit!.amount).toBe('much')
  })

  test('counts repeats in their run alone, and rolls no endless window', () => {
    const draft = { ...draftOf(full), measure: 'repeats', amount: '5' }
    expect(bodyOf(draft).limit).toEqual({
      measure: 'repeats',
      per: 'run',
      window: 'run',
      amount: '5',
      rolling: false,
    })
    expect(bodyOf({ ...draft, measure: 'usd', window: 'total' }).limit!.rolling).toBe(false)
  })

  test('takes a tag without a value for any', () => {
    expect(bodyOf({ ...draftOf(full), tags: 'agent, team = a=b' }).match!.tags).toEqual({
      agent: '*',
      team: 'a=b',
    })
  })
})

test('a policy is said in a sentence', () => {
  expect(about(full)).toBe(
    'Steps of type TOOL_CALL; tools refund*, pay; users acme/*; runs tagged agent: billing when usd(input.amount) > usd(100).',
  )
  expect(about({ effect: 'deny' })).toBe('Everything.')
  expect(period(full.limit!)).toBe('in any hour for each user')
  expect(period({ ...full.limit!, rolling: false, per: 'tag:agent' })).toBe('an hour for each tag agent')
})

test('what two versions say differently', () => {
  const after = { ...full, enabled: true, limit: { ...full.limit!, amount: 4 }, message: '' }
  expect(differences(full, after)).toEqual([
    { field: 'enabled', before: 'false', after: 'true' },
    { field: 'limit.amount', before: '3', after: '4' },
    { field: 'message', before: 'Ask', after: '' },
  ])
  expect(differences(undefined, { name: 'x' })).toEqual([{ field: 'name', before: '', after: 'x' }])
  expect(differences(full, full)).toEqual([])
})

test('ready-made policies begin by logging', () => {
  expect(READY.map(({ name, effect }) => `${name}: ${effect}`)).toEqual([
    'runaway-loop: log',
    'large-refund: log',
    'no-writes-at-night: log',
    'run-budget: log',
  ])
})

describe('what stands in the list', () => {
  const limit = full.limit!

  test('an amount is written as what its limit measures', () => {
    const of = (measure: typeof limit.measure, amount: number) => ({ limit: { ...limit, measure, amount } })
    expect(usedOf(of('usd', 20), 0.008)).toBe('<$0.01')
    expect(usedOf(of('tokens', 5), 1_200_000)).toBe('1.2 M')
    expect(usedOf(of('calls', 5), 4)).toBe('4')
  })

  test('hits are told by what was said', () => {
    expect(hitsOf({ hits: { denied: 0, reviewed: 6, granted: 1, logged: 0 } })).toBe(
      '6 asked, 1 let pass by a grant',
    )
    expect(hitsOf({ hits: { denied: 0, reviewed: 0, granted: 0, logged: 0 } })).toBe('')
  })

  test.each([
    ['user', 'acme/maria', '/users/acme%2Fmaria'],
    ['tool', 'a b', '/runs?tool=a%20b&time=30d'],
    ['tag:agent', 'billing', '/usage?by=tag%3Aagent&period=week'],
    ['workspace', '', null],
  ])('a limit for each %s leads to what counts in it', (per, scope, path) => {
    expect(scopePath({ ...limit, per }, scope)).toBe(path)
  })

  test('the file holds what the policies say, and nothing of how they stand', () => {
    const stored = { ...full, version: 3, use: [], hits: {}, changed_by: 'ana' } as unknown as Policy
    const { policies } = JSON.parse(fileOf([stored])) as { policies: object[] }
    expect(policies).toEqual([
      { ...full, limit: { ...full.limit, amount: '3' }, review: { expires_seconds: 60 } },
    ])
  })
})
