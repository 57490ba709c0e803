// The reasons of denials in words. A code is never shown without its sentence.
import type { Money, Schema } from '../api/client'
import { count } from './count'
import { usd } from './money'
import { until, utcClock } from './time'

export type DenyReason = Schema<'DenyReason'>
type Decision = Pick<Schema<'Decision'>, 'reason' | 'limit' | 'used' | 'resets_at' | 'policy_name'>

/** In the order the rules are asked. */
export const reasons: { code: DenyReason; label: string; sentence: string }[] = [
  { code: 'RUN_ALREADY_ENDED', label: 'Run already ended', sentence: 'The run had already ended.' },
  { code: 'KILL_SWITCH_ACTIVE', label: 'Kill switch', sentence: 'The kill switch was on.' },
  { code: 'USER_BLOCKED', label: 'User blocked', sentence: 'The user was blocked.' },
  {
    code: 'WORKSPACE_DAILY_BUDGET_EXCEEDED',
    label: 'Daily budget',
    sentence: 'The daily budget of the workspace was reached.',
  },
  {
    code: 'USER_DAILY_BUDGET_EXCEEDED',
    label: 'User’s daily budget',
    sentence: 'The daily budget of the user was reached.',
  },
  {
    code: 'MONTHLY_RUN_LIMIT_EXCEEDED',
    label: 'Monthly run limit',
    sentence: 'The runs of the month that the plan has were used up.',
  },
  {
    code: 'MAX_CONCURRENT_RUNS_EXCEEDED',
    label: 'Concurrent runs',
    sentence: 'As many runs as may run at once were running.',
  },
  {
    code: 'MODEL_NOT_PRICED',
    label: 'Model not priced',
    sentence: 'The model had no price, and the workspace refuses that.',
  },
  { code: 'POLICY_DENIED', label: 'Policy', sentence: 'A policy of the workspace did not allow it.' },
  {
    code: 'POLICY_LIMIT_EXCEEDED',
    label: 'Policy’s limit',
    sentence: 'The limit of a policy of the workspace was reached.',
  },
  {
    code: 'REVIEW_NOT_SUPPORTED',
    label: 'Review not supported',
    sentence: 'A person was to approve it, but the client cannot wait for one.',
  },
  { code: 'REVIEW_DENIED', label: 'Refused by a person', sentence: 'A person refused it.' },
  { code: 'REVIEW_EXPIRED', label: 'Review expired', sentence: 'Nobody decided in time.' },
  {
    code: 'REVIEW_CANCELLED',
    label: 'Review cancelled',
    sentence: 'What a person was asked about was no longer possible, or the policy changed.',
  },
]

export function reasonLabel(code: DenyReason): string {
  return reasons.find((reason) => reason.code === code)?.label ?? code
}

export function reasonSentence(code: DenyReason): string {
  return reasons.find((reason) => reason.code === code)?.sentence ?? code
}

/** Why a decision was a DENY, with its figures, as the second half of "Stopped at step 7: …". */
export function why({ reason, limit, used, resets_at, policy_name }: Decision, now: number): string {
  const day = resets_at && Date.parse(resets_at) > now ? 'today’s' : 'the day’s'
  switch (reason) {
    case 'RUN_ALREADY_ENDED':
      return 'the run had already ended'
    case 'KILL_SWITCH_ACTIVE':
      return 'the kill switch was on'
    case 'USER_BLOCKED':
      return 'this user was blocked'
    case 'WORKSPACE_DAILY_BUDGET_EXCEEDED':
      return `${day} budget of ${money(limit)} was reached (${money(used)} spent)`
    case 'USER_DAILY_BUDGET_EXCEEDED':
      return `this user’s budget of ${money(limit)} a day was reached (${money(used)} spent)`
    case 'MONTHLY_RUN_LIMIT_EXCEEDED':
      return `all ${whole(limit)} runs of the month were used`
    case 'MAX_CONCURRENT_RUNS_EXCEEDED':
      return `${whole(used)} of ${whole(limit)} runs were running at once`
    case 'MODEL_NOT_PRICED':
      return 'the model had no price'
    case 'POLICY_DENIED':
      return `the policy ${policy_name ?? ''} did not allow it`
    case 'POLICY_LIMIT_EXCEEDED':
      return `the limit of the policy ${policy_name ?? ''} was reached`
    case 'REVIEW_NOT_SUPPORTED':
      return `the policy ${policy_name ?? ''} asks for a person, and the client cannot wait for one`
    case 'REVIEW_DENIED':
      return 'a person refused it'
    case 'REVIEW_EXPIRED':
      return 'nobody decided about it in time'
    case 'REVIEW_CANCELLED':
      return 'its review was cancelled'
    default:
      return 'it was denied'
  }
}

/** When agents may go on, as a sentence; what a person can do where no clock opens the rule again. */
export function reopens({ reason, resets_at }: Decision, now: number): string {
  if (resets_at) {
    const when = dayAndClock(resets_at, now)
    return Date.parse(resets_at) > now
      ? `It opens again ${when}, ${until(resets_at, now)}.`
      : `It opened again ${when}.`
  }
  switch (reason) {
    case 'KILL_SWITCH_ACTIVE':
      return 'Agents go on once it is turned off.'
    case 'USER_BLOCKED':
      return 'Unblock the user to let them go on.'
    case 'MAX_CONCURRENT_RUNS_EXCEEDED':
      return 'The next run starts as soon as one ends.'
    case 'MODEL_NOT_PRICED':
      return 'Set a price for the model to let agents call it.'
    default:
      return ''
  }
}

function dayAndClock(instant: string, now: number): string {
  const far = Math.abs(Date.parse(instant) - now) > 86_400_000
  const date = far
    ? new Date(instant).toLocaleDateString('en-GB', { day: 'numeric', month: 'long', timeZone: 'UTC' })
    : ''
  return date ? `on ${date} at ${utcClock(instant)}` : `at ${utcClock(instant)}`
}

const money = (value: Money | null | undefined) => (value == null ? 'no limit' : usd(value))
const whole = (value: Money | null | undefined) => (value == null ? 'no limit' : count(Number(value)))
