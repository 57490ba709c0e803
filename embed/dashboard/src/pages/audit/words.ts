// What was done, in plain words, and what it changed from and to.
import type { Schema } from '../../api/client'
import { decimalText, Exact } from '../../api/exact'
import { agent } from '../../format/agent'
import { count, plural } from '../../format/count'
import { exactUsd, perMillion } from '../../format/money'
import { duration } from '../../format/time'

export type Entry = Schema<'AuditEntry'>
export type Action = Schema<'AuditAction'>

/** Every action, as the filter lists it. */
export const actions: { value: Action; label: string }[] = [
  { value: 'workspace.kill_switch', label: 'Kill switch' },
  { value: 'workspace.update', label: 'Limits and settings' },
  { value: 'model_price.set', label: 'Prices' },
  { value: 'model_price.reprice', label: 'Steps priced anew' },
  { value: 'policy.set', label: 'Policies saved' },
  { value: 'policy.delete', label: 'Policies deleted' },
  { value: 'review.approve', label: 'Steps approved' },
  { value: 'review.deny', label: 'Steps refused' },
  { value: 'review.bypass', label: 'Reviews bypassed' },
  { value: 'grant.revoke', label: 'Grants revoked' },
  { value: 'run.end_many', label: 'Runs ended together' },
  { value: 'user.block', label: 'Users blocked' },
  { value: 'user.unblock', label: 'Users unblocked' },
  { value: 'user.erase', label: 'Users erased' },
  { value: 'api_key.create', label: 'API keys created' },
  { value: 'api_key.regenerate', label: 'API key regenerated' },
  { value: 'api_key.revoke', label: 'API keys revoked' },
  { value: 'api_key.update', label: 'API keys renamed' },
  { value: 'endpoint.create', label: 'Endpoints added' },
  { value: 'endpoint.update', label: 'Endpoints changed' },
  { value: 'endpoint.roll_secret', label: 'Endpoint secrets rolled' },
  { value: 'endpoint.delete', label: 'Endpoints deleted' },
  { value: 'workspace.plan', label: 'Plan' },
  { value: 'account.sign_in', label: 'Sign-ins' },
  { value: 'account.sign_in_failed', label: 'Failed sign-ins' },
  { value: 'account.change_password', label: 'Password changed' },
  { value: 'account.change_password_failed', label: 'Failed password changes' },
  { value: 'account.set_password', label: 'Password set by the operator' },
  { value: 'account.sign_out', label: 'Sign-outs' },
  { value: 'account.sign_out_everywhere', label: 'Sign-outs everywhere' },
  { value: 'account.end_session', label: 'Sessions ended' },
  { value: 'account.end_other_sessions', label: 'Sign-outs everywhere else' },
  { value: 'account.register', label: 'Account registered' },
]

/** What was done; the target, which a stranger may have chosen, is not in it. */
export function deed({ action, after }: Pick<Entry, 'action' | 'after'>): string {
  if (action === 'workspace.kill_switch')
    return after?.kill_switch ? 'Stopped all agents' : 'Let agents run again'
  if (action === 'run.end_many') return `Ended ${plural(Number(after?.runs), 'run')}`
  return deeds[action] ?? action
}

const deeds: Partial<Record<Action, string>> = {
  'workspace.update': 'Changed the settings',
  'workspace.plan': 'Changed the plan',
  'model_price.reprice': 'Priced steps anew',
  'model_price.set': 'Set the price of',
  'policy.set': 'Saved the policy',
  'policy.delete': 'Deleted the policy',
  'review.approve': 'Approved the review',
  'review.deny': 'Refused the review',
  'review.bypass': 'Did not wait for the review of step',
  'grant.revoke': 'Revoked the grant',
  'user.block': 'Blocked',
  'user.unblock': 'Unblocked',
  'user.erase': 'Erased',
  'api_key.create': 'Created the API key',
  'api_key.regenerate': 'Regenerated the first API key',
  'api_key.revoke': 'Revoked the API key',
  'api_key.update': 'Renamed the API key',
  'endpoint.create': 'Added the endpoint',
  'endpoint.update': 'Changed the endpoint',
  'endpoint.roll_secret': 'Rolled the secret of the endpoint',
  'endpoint.delete': 'Deleted the endpoint',
  'account.sign_in': 'Signed in',
  'account.sign_in_failed': 'Failed to sign in as',
  'account.change_password': 'Changed the password',
  'account.change_password_failed': 'Failed to change the password',
  'account.set_password': 'Set the password of',
  'account.sign_out': 'Signed out',
  'account.sign_out_everywhere': 'Signed out everywhere',
  'account.end_session': 'Ended a session',
  'account.end_other_sessions': 'Signed out everywhere else',
  'account.register': 'Registered',
}

/** Who or what it was done to; an endpoint has a name that says more than its id. */
export function targetOf({ action, target, before, after }: Changed): string | null {
  const label = action?.startsWith('endpoint.') && (after?.label ?? before?.label)
  return typeof label === 'string' && label ? label : (target ?? null)
}

type Changed = Pick<Entry, 'before' | 'after'> & Partial<Pick<Entry, 'action' | 'target'>>

/** Whether the target says more than the deed and the actor do. */
export function namesTarget({ action, actor, target }: Entry): boolean {
  return target !== null && !(action.startsWith('account.') && target === actor.name)
}

/** Who did it: the kind in words, where a name alone would not say it. */
export function actorKind(kind: Entry['actor']['kind']): string {
  const kinds: Record<Entry['actor']['kind'], string> = {
    account: '',
    anonymous: 'Somebody not signed in',
    api_key: 'API key',
    channel: 'By a link in',
    command: 'Operator, command',
    stripe: 'Stripe, event',
    system: 'The server',
  }
  return kinds[kind] ?? kind
}

export type Difference = { field: string; from: string | null; to: string | null }

/** Each field that differs, in words and in the order of the forms; null is what was not there. What the deed and its target say already is left out. */
export function differences(entry: Changed): Difference[] {
  const { before, after } = entry
  const named = targetOf(entry)
  const names = new Set([...Object.keys(fields), ...Object.keys({ ...before, ...after })])
  return (
    [...names]
      .filter((name) => name !== 'blocked' && name !== 'kill_switch' && name !== 'runs')
      .map((name) => ({
        field: fields[name] ?? name,
        from: before && name in before ? said(name, before[name]) : null,
        to: after && name in after ? said(name, after[name]) : null,
      }))
      .filter(({ from, to }) => from !== to)
      // Of what was made, what was left blank says nothing.
      .filter(({ from, to }) => !(from === null && (to === '' || to === '{}')))
      // A name that has come or gone is the target's, which stands beside the deed.
      .filter(({ from, to }) => named === null || (from ?? to) !== named || (from !== null && to !== null))
  )
}

const fields: Record<string, string> = {
  daily_budget_usd: 'Daily budget',
  user_daily_budget_usd: 'Daily budget of each user',
  max_concurrent_runs: 'Concurrent runs',
  price_catalogue: 'Published prices',
  run_idle_timeout_seconds: 'Idle timeout',
  name: 'Name',
  workspace_name: 'Workspace',
  plan: 'Plan',
  reason: 'Reason',
  label: 'Label',
  description: 'Note',
  effect: 'Effect',
  match: 'About',
  when: 'Only when',
  message: 'What the agent hears',
  limit: 'Limit',
  review: 'Waits for a person',
  priority: 'Priority',
  reviews: 'Agents that wait for a person',
  timezone: 'Time zone',
  week_start: 'The week begins on',
  kind: 'Kind',
  events: 'Events',
  enabled: 'On',
  disabled_reason: 'Off because',
  url: 'URL',
  prefix: 'Key',
  api_key_prefix: 'Key',
  email: 'Email',
  agent: 'Browser or program',
  input_cost_per_token: 'Input, 1M tokens',
  output_cost_per_token: 'Output, 1M tokens',
  same_as: 'Same as',
  only_unpriced: 'Only steps without a price',
  steps: 'Steps',
  before_usd: 'Cost before',
  after_usd: 'Cost after',
  difference_usd: 'Difference',
  since: 'From',
  until: 'Before',
  is_active: 'Active',
}

function said(name: string, value: unknown): string {
  if (value === null) return 'none'
  if (name === 'agent') return agent(String(value))
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value === 'number' || value instanceof Exact) {
    if (name.endsWith('_per_token')) return perMillion(value)
    if (name.endsWith('_usd')) return exactUsd(value)
    if (name.endsWith('_seconds')) return duration(Number(value) * 1000)
    return Number.isInteger(value) ? count(Number(value)) : decimalText(value)
  }
  if (name === 'events' && Array.isArray(value)) return value.includes('*') ? 'everything' : value.join(', ')
  return typeof value === 'string' ? value : JSON.stringify(value)
}
