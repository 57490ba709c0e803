// Endpoints and what they are told, in words.
import type { Schema } from '../../api/client'
import { plural } from '../../format/count'
import type { Shape } from '../../parts/Glyph.svelte'

export type Endpoint = Schema<'Endpoint'>
export type Delivery = Schema<'Delivery'>
export type Kind = Schema<'EndpointKind'>
type Wanted = Schema<'WantedEvents'>[number]

export const kinds: Record<Kind, { name: string; address: string; hint: string }> = {
  webhook: {
    name: 'Webhook',
    address: 'URL',
    hint: 'An https URL. Messages are signed as Standard Webhooks says.',
  },
  slack: {
    name: 'Slack',
    address: 'URL',
    hint: 'That of an incoming webhook, hooks.slack.com/services/…',
  },
  discord: {
    name: 'Discord',
    address: 'URL',
    hint: 'That of a channel’s webhook, discord.com/api/webhooks/…',
  },
  teams: { name: 'Microsoft Teams', address: 'URL', hint: 'That of a workflow which posts to a channel.' },
  ntfy: {
    name: 'ntfy',
    address: 'URL',
    hint: 'That of a topic, such as ntfy.sh/my-topic, with https before it',
  },
  email: { name: 'Email', address: 'Address', hint: 'The server needs SMTP settings.' },
}

/** Every event that can be chosen, in the order of the form. */
export const events: { value: Exclude<Wanted, '*'>; label: string }[] = [
  { value: 'budget.threshold', label: 'A budget is spent to 50, 80, 100 %' },
  { value: 'budget.forecast', label: 'A budget will be spent today' },
  { value: 'spend.spike', label: 'Spending is far above the usual' },
  { value: 'kill_switch.changed', label: 'The kill switch was turned' },
  { value: 'review.requested', label: 'A step waits for a person' },
  { value: 'review.decided', label: 'A review was decided' },
  { value: 'review.expired', label: 'A review expired' },
  { value: 'review.bypassed', label: 'An agent did not wait for its review' },
  { value: 'loop.detected', label: 'An agent repeats itself' },
  { value: 'model.unpriced', label: 'A model without a price was used' },
  { value: 'key.regenerated', label: 'The API key was regenerated' },
  { value: 'sign_in.refused', label: 'A sign-in was refused' },
  { value: 'verify.failed', label: 'The books are wrong' },
  { value: 'backup.failed', label: 'A backup failed' },
  { value: 'disk.low', label: 'The disk is nearly full' },
]

export function eventLabel(event: Delivery['event']): string {
  return events.find(({ value }) => value === event)?.label ?? 'Test'
}

/** What an endpoint is told, in a few words. */
export function told(wanted: Endpoint['events']): string {
  if (wanted.includes('*')) return 'everything'
  return wanted.length === 1 ? wanted[0]! : plural(wanted.length, 'kind of events', 'kinds of events')
}

/** Why an endpoint is off. */
export function offBecause({ disabled_reason }: Endpoint): string {
  if (disabled_reason === 'GONE') return 'It answered 410: it wants no more messages.'
  if (disabled_reason === 'UNREADABLE')
    return 'The server’s secret has changed since it was added. Delete it and add it again.'
  return 'Somebody switched it off.'
}

export const states: Record<Delivery['status'], { word: string; shape: Shape; tone: string }> = {
  pending: { word: 'Pending', shape: 'waiting', tone: 'waiting' },
  delivered: { word: 'Delivered', shape: 'done', tone: 'allowed' },
  failed: { word: 'Failed', shape: 'failed', tone: 'denied' },
  cancelled: { word: 'Cancelled', shape: 'stale', tone: 'waiting' },
}

/** How the last attempt went: why it failed, as the server says it, or what was answered. */
export function answerOf({ error, response_status }: Pick<Delivery, 'error' | 'response_status'>): string {
  if (error) return error.slice(0, 1).toUpperCase() + error.slice(1)
  return response_status ? `Answered ${response_status}` : ''
}

/** JSON as people read it; other texts as they are. */
export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}
