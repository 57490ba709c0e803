// Reviews in words: what the agent wants to do, and how it ended.
import type { Schema } from '../api/client'
import { Exact } from '../api/exact'
import { plural } from '../format/count'
import { duration } from '../format/time'
import type { Shape } from '../parts/Glyph.svelte'

export type Review = Schema<'Review'>
export type NewGrant = NonNullable<Schema<'NewGrant'>>
type Resolution = NonNullable<Review['resolution']>
/** What the page of a run knows of a review. */
type Brief = Pick<Review, 'status' | 'resolution'>

const types: Record<Schema<'StepType'>, string> = {
  MODEL_CALL: 'Model call',
  TOOL_CALL: 'Tool call',
  INPUT: 'Input',
  OUTPUT: 'Output',
  REASONING: 'Reasoning',
  SYSTEM: 'System step',
}

export const kindOf = ({ type }: Review['action']) => types[type] ?? type
export const nameOf = (action: Review['action']) => action.tool_name ?? action.model ?? kindOf(action)

type Look = { word: string; shape: Shape; tone: 'allowed' | 'denied' | 'waiting' | 'plain'; says: string }

const looks: Record<Resolution | 'pending', Look> = {
  pending: { word: 'Waits for a person', shape: 'waiting', tone: 'waiting', says: '' },
  approved: { word: 'Approved', shape: 'done', tone: 'allowed', says: 'The step ran, once.' },
  denied: { word: 'Denied by a person', shape: 'denied', tone: 'denied', says: 'The step did not run.' },
  expired: {
    word: 'Expired, nobody decided',
    shape: 'stale',
    tone: 'plain',
    says: 'Its time was over, or the agent had stopped waiting. The step did not run.',
  },
  cancelled: {
    word: 'Cancelled',
    shape: 'stale',
    tone: 'plain',
    says: 'The run ended, its user was blocked, or all agents were stopped first. The step did not run.',
  },
  superseded: {
    word: 'Superseded',
    shape: 'stale',
    tone: 'plain',
    says: 'The policy was changed while it waited. The step did not run; the agent may ask again.',
  },
  bypassed: {
    word: 'Ran without an answer',
    shape: 'burning',
    tone: 'denied',
    says: 'The agent did not wait: it did this before anybody had decided. It is booked, and in the audit log.',
  },
}

export const lookOf = ({ resolution }: Brief): Look => looks[resolution ?? 'pending']

/** Who decided: an account, or a channel; nobody where time or events did. */
export function deciderOf({ decided_by: by }: Pick<Review, 'decided_by'>): string | null {
  return by?.account ?? (by?.channel ? `a link of ${by.channel}` : null)
}

export function tookOf(review: Pick<Review, 'requested_at' | 'decided_at'>): string | null {
  if (!review.decided_at) return null
  return duration(Math.max(0, Date.parse(review.decided_at) - Date.parse(review.requested_at)))
}

/** Who decided and after how long, for a row: "approved by ana@example.com after 41 s". */
export function verdictOf(review: Review): string {
  if (review.status === 'pending') return ''
  const by = deciderOf(review)
  const took = tookOf(review)
  const word = review.resolution === 'denied' ? 'denied' : lookOf(review).word.toLowerCase()
  return [word, by && `by ${by}`, took && `after ${took}`].filter(Boolean).join(' ')
}

/** What is left of its time, in whole seconds. */
export function leftOf({ expires_at }: Pick<Review, 'expires_at'>, now: number): number {
  return Math.max(0, Math.ceil((Date.parse(expires_at) - now) / 1000) * 1000)
}

export const shareLeft = (review: Review, now: number) =>
  leftOf(review, now) / Math.max(1000, Date.parse(review.expires_at) - Date.parse(review.requested_at))

/** Whether little of its time is left. */
export const isShort = (review: Review, now: number) => shareLeft(review, now) < 0.4

/** What somebody is told after a verdict; `me` is whose it was. */
export function toldOf(review: Review, wish: 'approve' | 'deny', me: string): string {
  const by = deciderOf(review)
  const mine = by === me || by === null
  switch (review.resolution) {
    case 'approved':
      if (wish === 'approve' && mine) return 'Approved. The agent goes on.'
      return `${by} was first, and approved it. Your word changed nothing.`
    case 'denied':
      if (wish === 'deny' && mine) return 'Denied. The agent hears why.'
      return `${by} was first, and denied it. Your word changed nothing.`
    case 'expired':
      return wish === 'approve'
        ? 'Nobody waits for it any more: its time is over, or the agent has gone. The step did not run.'
        : 'Its time was over before. The step did not run.'
    case null:
      return 'It still waits.'
    default:
      return `It had ended before: ${lookOf(review).word.toLowerCase()}. ${lookOf(review).says}`
  }
}

/** The same of several: "2 approved. 1 had ended before: ran without an answer." */
export function toldOfMany(reviews: Review[], wish: 'approve' | 'deny', me: string): string {
  const done = wish === 'approve' ? 'approved' : 'denied'
  const mine = reviews.filter((r) => r.resolution === done && deciderOf(r) === me).length
  const others = reviews.length - mine
  const rest = others === 0 ? '' : ` ${plural(others, 'had', 'had')} ended before, and stays as it was.`
  return `${plural(mine, 'step')} ${done}.${rest}`
}

/** What an approval may allow besides, in the order of the choice. */
export function scopesOf({ action }: Pick<Review, 'action'>): ('once' | NewGrant['scope'])[] {
  return action.tool_name === null ? ['once', 'same_action', 'run'] : ['once', 'same_action', 'tool', 'run']
}

export const TIMES = [
  { value: '300', label: '5 minutes' },
  { value: '600', label: '10 minutes' },
  { value: '3600', label: '1 hour' },
  { value: '28800', label: '8 hours' },
  { value: '86400', label: '1 day' },
  { value: '604800', label: '7 days' },
]

export type FieldOf = { name: string; text: string; nested: boolean; asked: boolean }

const DEEP = 3

/** The input as fields one can read: objects by the path of each value, short lists in a line, the rest as JSON. */
export function fieldsOf(input: unknown, asked: readonly string[] = []): FieldOf[] {
  const found: FieldOf[] = []
  const walk = (value: unknown, path: string[]) => {
    if (path.length < DEEP && isObject(value) && Object.keys(value).length) {
      for (const [name, inner] of Object.entries(value)) walk(inner, [...path, name])
      return
    }
    found.push({
      name: path.join('.'),
      ...textOf(value),
      asked: asked.some((name) => path.join('.') === name || path[0] === name),
    })
  }
  walk(input, [])
  return found
}

function textOf(value: unknown): { text: string; nested: boolean } {
  if (value === null) return { text: 'null', nested: false }
  if (typeof value !== 'object') return { text: String(value), nested: false }
  if (value instanceof Exact) return { text: String(value), nested: false }
  if (Array.isArray(value) && value.length && value.every((one) => typeof one !== 'object' || one === null))
    return { text: value.map(String).join(', '), nested: false }
  return { text: JSON.stringify(value), nested: true }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Exact)

/** The fields of the input that a policy's expression looks at. */
export function askedFields(when: string | null | undefined): string[] {
  const names = [...(when ?? '').matchAll(/\binput((?:\.\??[A-Za-z_]\w*)+)/g)].map(([, path]) =>
    path!.slice(1).replaceAll('?', ''),
  )
  // What is called on a field is no field.
  const methods = /\.(orValue|matches|startsWith|endsWith|contains|exists|all|size|map|filter)$/
  return [...new Set(names.map((name) => name.replace(methods, '')))]
}

const LONGEST = 60

/** In a few words what it is about: "180.00 USD", or the first fields. */
export function briefOf(input: unknown): string {
  if (!isObject(input)) return ''
  const values = new Map(fieldsOf(input).map(({ name, text }) => [name, text]))
  const amount = ['amount', 'total', 'price', 'sum'].map((name) => values.get(name)).find(Boolean)
  const parts = amount
    ? [[amount, values.get('currency')].filter(Boolean).join(' ')]
    : [...values].slice(0, 2).map(([name, text]) => `${name} ${text}`)
  const text = parts.join(', ')
  return text.length > LONGEST ? text.slice(0, LONGEST).replace(/[\uD800-\uDBFF]$/, '') + '…' : text
}
