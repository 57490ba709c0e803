// What the state of billing means to a person: sentences, and what can be pressed.
import type { Schema } from '../../api/client'
import { count, plural } from '../../format/count'
import { usd } from '../../format/money'
import { dayOf } from '../../format/time'

export type Billing = Schema<'Billing'>
export type Plan = Schema<'BillingPlan'>
export type PlanChange = Schema<'PlanChange'>
type PlanId = Plan['id']
type Workspace = Pick<
  Schema<'Workspace'>,
  'kill_switch' | 'user_daily_budget_usd' | 'max_concurrent_runs' | 'retention_days'
>

/** Stripe's page to open: the payment page of a plan, or the portal of the customer. */
export type Action =
  { to: 'checkout'; plan: 'pro' | 'scale'; label: string } | { to: 'portal'; label: string }
export type Sentence = { tone: 'plain' | 'waiting' | 'denied'; text: string }

export function planName(billing: Billing, id: string | null): string {
  return billing.plans.find((plan) => plan.id === id)?.name ?? id ?? ''
}

/** Whether a subscription may still take money: then it is changed in the portal, never bought again. */
export function isLive({ status }: Billing): boolean {
  return status === 'active' || status === 'past_due' || status === 'paused' || status === 'incomplete'
}

/** The one button beside the workspace's own plan. */
export function manage(billing: Billing): Action | null {
  if (!billing.portal_enabled) return null
  return { to: 'portal', label: isLive(billing) ? 'Manage subscription' : 'Invoices and payment' }
}

/** The button of a plan, if any. */
export function choose(billing: Billing, plan: Plan): Action | null {
  if (!billing.billing_enabled || !plan.can_buy) return null
  if (plan.id !== 'pro' && plan.id !== 'scale') return null
  const own = plan.id === billing.plan
  if (isLive(billing)) {
    // Changing plans needs a subscription in good order; all else is mended with the button on top.
    if (own || !billing.portal_enabled || billing.status !== 'active') return null
    if (plan.id === billing.subscription_plan) return null
    return { to: 'portal', label: direction(billing, plan) }
  }
  const { id } = plan
  if (!own) return { to: 'checkout', plan: id, label: direction(billing, plan) }
  // Its own plan is offered only when it is about to end.
  return billing.plan_ends_at ? { to: 'checkout', plan: id, label: `Subscribe to ${plan.name} again` } : null
}

function direction(billing: Billing, plan: Plan): string {
  const rank = (id: PlanId) => billing.plans.findIndex((each) => each.id === id)
  return `${rank(plan.id) > rank(billing.plan) ? 'Upgrade' : 'Change'} to ${plan.name}`
}

/** Why a plan has no button, where that is not plain to see. */
export function noButton(billing: Billing, plan: Plan): string {
  if (plan.id === billing.plan) return ''
  if (plan.price_usd === null) return 'Custom: ask the operator of this server.'
  if (!billing.billing_enabled || choose(billing, plan)) return ''
  if (isCustom(billing)) return ''
  if (plan.id === billing.next_plan) return 'What follows when the plan ends.'
  return plan.id === 'pro' || plan.id === 'scale'
    ? ''
    : isLive(billing)
      ? 'To pay nothing, cancel the subscription.'
      : ''
}

const isCustom = (billing: Billing) => billing.plans.find(({ id }) => id === billing.plan)?.price_usd === null

/** How things stand, and what happens when. */
export function standing(billing: Billing, workspace: Workspace): Sentence[] {
  const name = planName(billing, billing.plan)
  if (!billing.billing_enabled) {
    return [plain('Plans are not sold on this server. Its operator changes them.')]
  }
  if (isCustom(billing)) {
    const said = plain(`${name} is custom: ask the operator of this server to change it.`)
    return isLive(billing) ? [said, ...subscription(billing, workspace)] : [said]
  }
  return subscription(billing, workspace)
}

function subscription(billing: Billing, workspace: Workspace): Sentence[] {
  const { status, subscription_plan, current_period_end: end, plan_ends_at, next_plan } = billing
  const name = planName(billing, billing.plan)
  const paid = planName(billing, subscription_plan)
  const then = plan_ends_at && next_plan ? moves(billing, workspace) : ''
  switch (status) {
    case 'none':
      return [
        plain(
          billing.plans[0]?.id === billing.plan
            ? 'This workspace pays for nothing.'
            : `${name} was given without a subscription.`,
        ),
      ]
    case 'incomplete':
      return [waiting('The first payment is under way. The plan changes once it is confirmed.')]
    case 'active':
      if (plan_ends_at) return [waiting(`Ends on ${dayOf(plan_ends_at)}; ${then}`)]
      if (billing.cancel_at_period_end)
        return [waiting(`The ${paid} subscription ends${end ? ` on ${dayOf(end)}` : ''}. ${name} stays.`)]
      if (subscription_plan !== billing.plan)
        return [
          plain(`The subscription pays for ${paid}; the operator of this server gave ${name}.`),
          ...renews(end),
        ]
      return renews(end)
    case 'past_due':
      return [denied(pastDue(billing, paid, then))]
    case 'paused':
      return [waiting('The subscription is paused: its trial ended without a way to pay. Add one to go on.')]
    case 'canceled':
      if (plan_ends_at)
        return [waiting(`The subscription is canceled. ${name} ends on ${dayOf(plan_ends_at)}; ${then}`)]
      return [plain('The subscription has ended. This workspace pays for nothing.')]
  }
}

function pastDue(billing: Billing, paid: string, then: string): string {
  const until = billing.grace_ends_at ?? billing.plan_ends_at
  if (until) return `A payment failed. Mend it by ${dayOf(until)}; ${then}`
  return billing.plans.findIndex(({ id }) => id === billing.plan) <
    billing.plans.findIndex(({ id }) => id === billing.subscription_plan)
    ? `A payment failed, and ${paid} has ended. It comes back once the payment is mended.`
    : `A payment for the ${paid} subscription failed. Mend it under “Manage subscription”.`
}

const renews = (end: string | null) => (end ? [plain(`Renews on ${dayOf(end)}.`)] : [])

/** "then this workspace moves to Basic: the kill switch is turned off, …" */
function moves(billing: Billing, workspace: Workspace): string {
  const next = billing.plans.find(({ id }) => id === billing.next_plan)
  const lost = next ? losses(workspace, next) : []
  return `${billing.grace_ends_at ? 'otherwise' : 'then'} this workspace moves to ${planName(billing, billing.next_plan)}${lost.length ? ` (${lost.join(', ')})` : ''}.`
}

/** What a workspace has now that a plan lacks. */
export function losses(workspace: Workspace, plan: Plan): string[] {
  const lost: string[] = []
  if (workspace.kill_switch && !plan.features.kill_switch) lost.push('the kill switch is turned off')
  if (workspace.user_daily_budget_usd !== null && !plan.features.user_daily_budget)
    lost.push(`the budget of ${usd(workspace.user_daily_budget_usd)} a user is removed`)
  const fixed = plan.max_concurrent_runs
  if (fixed !== null && fixed !== workspace.max_concurrent_runs)
    lost.push(`${plural(fixed, 'concurrent run')} instead of ${count(workspace.max_concurrent_runs)}`)
  if (plan.retention_days < workspace.retention_days)
    lost.push(`history older than ${plural(plan.retention_days, 'day')} is deleted`)
  return lost
}

/** What a change of plan took away. */
export function resets({ reset }: PlanChange): string {
  const words: string[] = []
  if (reset.kill_switch) words.push('kill switch turned off')
  if (reset.user_daily_budget_usd !== null)
    words.push(`budget of ${usd(reset.user_daily_budget_usd)} a user removed`)
  if (reset.max_concurrent_runs !== null)
    words.push(`limit of ${plural(reset.max_concurrent_runs, 'concurrent run')} replaced`)
  return words.join(', ')
}

const makers: Record<PlanChange['by'], string> = {
  sign_up: 'Registration',
  command: 'Operator',
  stripe_event: 'Stripe',
  stripe_check: 'Stripe, when asked',
}
export const madeBy = ({ by }: PlanChange) => makers[by]

/** What a person who comes back from the payment page should know. */
export function returned(checkout: string | null, billing: Billing): string {
  if (checkout === 'canceled') return 'The payment page was left. Nothing was bought.'
  if (checkout !== 'done') return ''
  return billing.status === 'active' && billing.subscription_plan === billing.plan
    ? `Paid. This workspace has ${planName(billing, billing.plan)} now.`
    : 'Thank you. The plan changes here as soon as Stripe confirms the payment.'
}

const plain = (text: string): Sentence => ({ tone: 'plain', text })
const waiting = (text: string): Sentence => ({ tone: 'waiting', text })
const denied = (text: string): Sentence => ({ tone: 'denied', text })
