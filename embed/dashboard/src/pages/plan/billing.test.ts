import { describe, expect, test } from 'vitest'
import { type Billing, choose, losses, madeBy, manage, noButton, resets, returned, standing } from './billing'
import { plans } from './plans.sample'

const end = '2026-12-20T12:00:00.000Z'
const base: Billing = {
  plan: 'basic',
  status: 'none',
  billing_enabled: true,
  portal_enabled: false,
  subscription_plan: null,
  current_period_end: null,
  cancel_at_period_end: false,
  grace_ends_at: null,
  plan_ends_at: null,
  next_plan: null,
  plans,
  changes: [],
}
const unsold = plans.map((plan) => ({ ...plan, can_buy: false }))
const pro: Billing = {
  ...base,
  plan: 'pro',
  status: 'active',
  portal_enabled: true,
  subscription_plan: 'pro',
  current_period_end: end,
}
const ends = { plan_ends_at: end, next_plan: 'basic' } as const
const workspace = {
  kill_switch: false,
  user_daily_budget_usd: null,
  max_concurrent_runs: 3,
  retention_days: 1,
}

/** What one sees: the button on top, those of the plans, and the sentences. */
function seen(billing: Billing) {
  return {
    top: manage(billing)?.label ?? '',
    buttons: billing.plans.map((plan) => choose(billing, plan)?.label ?? noButton(billing, plan)),
    words: standing(billing, workspace).map(({ tone, text }) => `${tone}: ${text}`),
  }
}
const ask = 'Custom: ask the operator of this server.'

test.each<[string, Billing, string, string[], string[]]>([
  [
    'not configured',
    { ...base, billing_enabled: false, plans: unsold },
    '',
    ['', '', '', ask],
    ['plain: Plans are not sold on this server. Its operator changes them.'],
  ],
  [
    'no subscription',
    base,
    '',
    ['', 'Upgrade to Pro', 'Upgrade to Scale', ask],
    ['plain: This workspace pays for nothing.'],
  ],
  [
    'given by the operator',
    { ...base, plan: 'pro' },
    '',
    ['', '', 'Upgrade to Scale', ask],
    ['plain: Pro was given without a subscription.'],
  ],
  [
    'a larger plan given by the operator',
    { ...base, plan: 'scale' },
    '',
    ['', 'Change to Pro', '', ask],
    ['plain: Scale was given without a subscription.'],
  ],
  [
    'incomplete',
    { ...base, status: 'incomplete', portal_enabled: true },
    'Manage subscription',
    ['', '', '', ask],
    ['waiting: The first payment is under way. The plan changes once it is confirmed.'],
  ],
  [
    'active',
    pro,
    'Manage subscription',
    ['To pay nothing, cancel the subscription.', '', 'Upgrade to Scale', ask],
    ['plain: Renews on 20 Dec 2026 UTC.'],
  ],
  [
    'active, the larger plan',
    { ...pro, plan: 'scale', subscription_plan: 'scale' },
    'Manage subscription',
    ['To pay nothing, cancel the subscription.', 'Change to Pro', '', ask],
    ['plain: Renews on 20 Dec 2026 UTC.'],
  ],
  [
    'active, another plan given',
    { ...pro, plan: 'scale' },
    'Manage subscription',
    ['To pay nothing, cancel the subscription.', '', '', ask],
    [
      'plain: The subscription pays for Pro; the operator of this server gave Scale.',
      'plain: Renews on 20 Dec 2026 UTC.',
    ],
  ],
  [
    'canceled for the end of the period',
    { ...pro, ...ends, cancel_at_period_end: true },
    'Manage subscription',
    ['What follows when the plan ends.', '', 'Upgrade to Scale', ask],
    ['waiting: Ends on 20 Dec 2026 UTC; then this workspace moves to Basic.'],
  ],
  [
    'canceled, another plan given',
    { ...pro, plan: 'scale', cancel_at_period_end: true },
    'Manage subscription',
    ['To pay nothing, cancel the subscription.', '', '', ask],
    ['waiting: The Pro subscription ends on 20 Dec 2026 UTC. Scale stays.'],
  ],
  [
    'past due',
    { ...pro, ...ends, status: 'past_due', grace_ends_at: end },
    'Manage subscription',
    ['What follows when the plan ends.', '', '', ask],
    ['denied: A payment failed. Mend it by 20 Dec 2026 UTC; otherwise this workspace moves to Basic.'],
  ],
  [
    'past due, the grace is over',
    { ...pro, plan: 'basic', status: 'past_due' },
    'Manage subscription',
    ['', '', '', ask],
    ['denied: A payment failed, and Pro has ended. It comes back once the payment is mended.'],
  ],
  [
    'past due, another plan given',
    { ...pro, plan: 'scale', status: 'past_due' },
    'Manage subscription',
    ['To pay nothing, cancel the subscription.', '', '', ask],
    ['denied: A payment for the Pro subscription failed. Mend it under “Manage subscription”.'],
  ],
  [
    'paused',
    { ...base, status: 'paused', portal_enabled: true },
    'Manage subscription',
    ['', '', '', ask],
    ['waiting: The subscription is paused: its trial ended without a way to pay. Add one to go on.'],
  ],
  [
    'canceled, paid for a while',
    { ...pro, ...ends, status: 'canceled' },
    'Invoices and payment',
    ['What follows when the plan ends.', 'Subscribe to Pro again', 'Upgrade to Scale', ask],
    [
      'waiting: The subscription is canceled. Pro ends on 20 Dec 2026 UTC; then this workspace moves to Basic.',
    ],
  ],
  [
    'canceled and over',
    { ...pro, plan: 'basic', status: 'canceled' },
    'Invoices and payment',
    ['', 'Upgrade to Pro', 'Upgrade to Scale', ask],
    ['plain: The subscription has ended. This workspace pays for nothing.'],
  ],
  [
    'enterprise',
    { ...base, plan: 'enterprise', plans: unsold },
    '',
    ['', '', '', ''],
    ['plain: Enterprise is custom: ask the operator of this server to change it.'],
  ],
  [
    'enterprise with a subscription',
    { ...pro, plan: 'enterprise', plans: unsold },
    'Manage subscription',
    ['', '', '', ''],
    [
      'plain: Enterprise is custom: ask the operator of this server to change it.',
      'plain: The subscription pays for Pro; the operator of this server gave Enterprise.',
      'plain: Renews on 20 Dec 2026 UTC.',
    ],
  ],
])('%s', (_, billing, top, buttons, words) => {
  expect(seen(billing)).toEqual({ top, buttons, words })
})

describe('buttons', () => {
  test('buy without a subscription', () => {
    expect(choose(base, plans[1]!)).toEqual({ to: 'checkout', plan: 'pro', label: 'Upgrade to Pro' })
  })
  test('never buy twice', () => {
    for (const status of ['active', 'past_due', 'paused', 'incomplete'] as const) {
      for (const plan of plans) expect(choose({ ...pro, status }, plan)?.to).not.toBe('checkout')
    }
  })
})

test('what the next plan lacks is said', () => {
  const had = { kill_switch: true, user_daily_budget_usd: 5, max_concurrent_runs: 10, retention_days: 14 }
  expect(losses(had, plans[0]!)).toEqual([
    'the kill switch is turned off',
    'the budget of $5.00 a user is removed',
    '3 concurrent runs instead of 10',
    'history older than 1 day is deleted',
  ])
  expect(losses(had, plans[2]!)).toEqual([])
  expect(
    standing({ ...pro, ...ends, cancel_at_period_end: true }, { ...workspace, retention_days: 14 }),
  ).toEqual([
    {
      tone: 'waiting',
      text: 'Ends on 20 Dec 2026 UTC; then this workspace moves to Basic (history older than 1 day is deleted).',
    },
  ])
})

test('what a change reset, and who made it', () => {
  const change = { at: end, from: 'scale', to: 'basic', by: 'stripe_check' } as const
  const reset = { kill_switch: true, user_daily_budget_usd: 0.5, max_concurrent_runs: 10 }
  expect(resets({ ...change, reset })).toBe(
    'kill switch turned off, budget of $0.50 a user removed, limit of 10 concurrent runs replaced',
  )
  expect(
    resets({
      ...change,
      reset: { kill_switch: false, user_daily_budget_usd: null, max_concurrent_runs: null },
    }),
  ).toBe('')
  expect(madeBy({ ...change, reset })).toBe('Stripe, when asked')
})

test('back from the payment page', () => {
  expect(returned(null, pro)).toBe('')
  expect(returned('else', pro)).toBe('')
  expect(returned('canceled', base)).toBe('The payment page was left. Nothing was bought.')
  expect(returned('done', base)).toBe(
    'Thank you. The plan changes here as soon as Stripe confirms the payment.',
  )
  expect(returned('done', pro)).toBe('Paid. This workspace has Pro now.')
})
