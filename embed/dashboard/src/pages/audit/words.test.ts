import { expect, test } from 'vitest'
import openapi from '../../../../../server/openapi.json'
import { actions, deed, differences, namesTarget, targetOf, type Entry } from './words'

test('what differs is said in the words of the pages', () => {
  const change = (before: Entry['before'], after: Entry['after']) => differences({ before, after })
  expect(change({ daily_budget_usd: null }, { daily_budget_usd: 25 })).toEqual([
    { field: 'Daily budget', from: 'none', to: '$25.00' },
  ])
  expect(change({ output_cost_per_token: 0.00001 }, { output_cost_per_token: 0.0000025 })).toEqual([
    { field: 'Output, 1M tokens', from: '$10.00', to: '$2.50' },
  ])
  expect(change({ run_idle_timeout_seconds: 3600 }, { run_idle_timeout_seconds: 1 })[0]).toMatchObject({
    from: '1 h',
    to: '1 s',
  })
  expect(change(null, { email: 'ada@example.com' })).toEqual([
    { field: 'Email', from: null, to: 'ada@example.com' },
  ])
  expect(
    change(null, {
      colour: 'red',
      is_active: true,
      output_cost_per_token: 0.00001,
      input_cost_per_token: 0.000005,
    }),
  ).toMatchObject([
    { field: 'Input, 1M tokens' },
    { field: 'Output, 1M tokens' },
    { field: 'Active' },
    { field: 'colour' },
  ])
  // What this page does not know yet is shown as it came.
  expect(change(null, { colour: ['red'] })).toEqual([{ field: 'colour', from: null, to: '["red"]' }])
  expect(change({ kill_switch: false }, { kill_switch: true })).toEqual([])
  expect(change({ reason: null }, { reason: null })).toEqual([])
  expect(change(null, null)).toEqual([])
})

test('an endpoint is called by its label, and no name is said twice', () => {
  const made = {
    action: 'endpoint.create',
    target: '01a2',
    before: null,
    after: { label: 'pager', kind: 'slack' },
  }
  expect(targetOf(made as unknown as Entry)).toBe('pager')
  expect(differences(made as unknown as Entry).map(({ field }) => field)).toEqual(['Kind'])
  const saved = {
    action: 'policy.set',
    target: 'refunds',
    before: null,
    after: { name: 'refunds', enabled: true },
  }
  expect(targetOf(saved as unknown as Entry)).toBe('refunds')
  expect(differences(saved as unknown as Entry).map(({ field }) => field)).toEqual(['On'])
  // A name that has changed is told.
  const renamed = { ...saved, before: { label: 'old' }, after: { label: 'refunds' } }
  expect(differences(renamed as unknown as Entry)).toMatchObject([{ from: 'old', to: 'refunds' }])
})

test('the kill switch is told by what it does', () => {
  expect(deed({ action: 'workspace.kill_switch', after: { kill_switch: true } })).toBe('Stopped all agents')
  expect(deed({ action: 'workspace.kill_switch', after: { kill_switch: false } })).toBe(
    'Let agents run again',
  )
})

test('every action has words, and the filter lists all of them', () => {
  const all = openapi.components.schemas.AuditAction.enum
  expect(actions.map(({ value }) => value as string).sort()).toEqual(all.toSorted())
  for (const { value } of actions) expect(deed({ action: value, after: null })).toMatch(/^[A-Z]/)
})

test('a person who acts on their own account is named once', () => {
  const entry = {
    action: 'account.sign_in',
    target: 'a@b.c',
    actor: { kind: 'account', name: 'a@b.c' },
  } as Entry
  expect(namesTarget(entry)).toBe(false)
  expect(
    namesTarget({ ...entry, action: 'account.sign_in_failed', actor: { kind: 'anonymous', name: null } }),
  ).toBe(true)
})
