// What the page says of policies, and what its form sends. Whether a policy is right is the server's to tell.
import ready from '../../../../../policies/ready.json'
import type { Schema } from '../../api/client'
import { decimalText, type Money } from '../../api/exact'
import { count, plural, tokens } from '../../format/count'
import { usd, usdBeside } from '../../format/money'
import type { Shape } from '../../parts/Glyph.svelte'
import { decimalOf } from '../../format/typed'
import { userPath } from '../../shell/users'

export type Policy = Schema<'Policy'>
type Whole = Schema<'PolicyDefinition'>
/** A policy as it is sent: what is left out is the default. */
export type Body = Partial<Omit<Whole, 'effect'>> & Pick<Whole, 'effect'>
export type Backtest = Schema<'Backtest'>

export const EFFECTS = [
  { value: 'log', label: 'Only log' },
  { value: 'review', label: 'Ask a person' },
  { value: 'deny', label: 'Deny' },
]
export const MEASURES = [
  { value: '', label: 'no limit' },
  { value: 'usd', label: 'dollars' },
  { value: 'tokens', label: 'tokens' },
  { value: 'calls', label: 'calls' },
  { value: 'runs', label: 'runs' },
  { value: 'repeats', label: 'repeats in a row' },
]
export const WINDOWS = ['run', 'minute', 'hour', 'day', 'week', 'month', 'total'].map((value) => ({
  value,
  label: value === 'total' ? 'ever' : value === 'run' ? 'a run' : `${value === 'hour' ? 'an' : 'a'} ${value}`,
}))

/** A policy as texts in a form. Lists are separated by commas, tags are key=value. */
export type Draft = {
  name: string
  description: string
  enabled: boolean
  priority: string
  types: string
  tools: string
  models: string
  users: string
  tags: string
  when: string
  measure: string
  per: string
  window: string
  amount: string
  rolling: boolean
  effect: string
  message: string
  expires: string
}

export function draftOf(p: Body): Draft {
  const list = (texts: readonly string[] | undefined) => (texts ?? []).join(', ')
  const { match = {}, limit, review } = p
  return {
    name: p.name ?? '',
    description: p.description ?? '',
    enabled: p.enabled ?? true,
    priority: String(p.priority ?? 100),
    types: list(match.types),
    tools: list(match.tools),
    models: list(match.models),
    users: list(match.users),
    tags: Object.entries(match.tags ?? {})
      .map(([key, value]) => `${key}=${value}`)
      .join(', '),
    when: p.when ?? '',
    measure: limit?.measure ?? '',
    per: limit?.per ?? 'workspace',
    window: limit?.window ?? 'day',
    amount: limit ? decimalText(limit.amount as Money) : '',
    rolling: limit?.rolling ?? false,
    effect: p.effect,
    message: p.message ?? '',
    expires: String(review?.expires_seconds ?? 290),
  }
}

const split = (text: string) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)

/** What the form sends: a number that cannot be read goes as it is, so that the server says what is wrong. */
export function bodyOf(d: Draft): Body {
  const number = (text: string) => (/^\d{1,15}$/.test(text.trim()) ? Number(text) : text)
  const match: Record<string, unknown> = {}
  for (const field of ['types', 'tools', 'models', 'users'] as const)
    if (split(d[field]).length) match[field] = split(d[field])
  const tags = split(d.tags).map((pair) => {
    const at = pair.indexOf('=')
    return at < 0 ? [pair, '*'] : [pair.slice(0, at).trim(), pair.slice(at + 1).trim()]
  })
  if (tags.length) match.tags = Object.fromEntries(tags)
  const repeats = d.measure === 'repeats'
  return {
    name: d.name.trim(),
    description: d.description.trim(),
    enabled: d.enabled,
    priority: number(d.priority),
    match,
    ...(d.when.trim() && { when: d.when.trim() }),
    ...(d.measure && {
      limit: {
        measure: d.measure,
        per: repeats ? 'run' : d.per.trim(),
        window: repeats ? 'run' : d.window,
        amount: decimalOf(d.amount) ?? d.amount,
        rolling: !repeats && d.rolling && d.window !== 'run' && d.window !== 'total',
      },
    }),
    effect: d.effect,
    message: d.message.trim(),
    ...(d.effect === 'review' && { review: { expires_seconds: number(d.expires) } }),
  } as unknown as Body
}

/** "Tools refund*, for users acme/*, when input.amount > 100." */
export function about(p: Body): string {
  const { match = {} } = p
  const parts: string[] = []
  const add = (word: string, texts: readonly string[] | undefined) => {
    if (texts?.length) parts.push(`${word} ${texts.join(', ')}`)
  }
  add('steps of type', match.types)
  add('tools', match.tools)
  add('models', match.models)
  add('users', match.users)
  add(
    'runs tagged',
    Object.entries(match.tags ?? {}).map(([key, value]) => `${key}: ${value}`),
  )
  const text = parts.length ? parts.join('; ') : 'everything'
  return text.charAt(0).toUpperCase() + text.slice(1) + (p.when ? ` when ${p.when}` : '') + '.'
}

/** What a policy with a limit allows: "$5.00", "3 calls", "5 times". */
export function amountOf(p: Body): string {
  if (!p.limit) return '–'
  const n = p.limit.amount as Money
  if (p.limit.measure === 'usd') return usd(n)
  return p.limit.measure === 'repeats' ? `${n} times` : plural(Number(n), p.limit.measure.replace(/s$/, ''))
}

/** An amount of what a limit measures: "$3.18", "1.2 M", "3". */
export function usedOf(p: Pick<Body, 'limit'>, used: Money): string {
  if (p.limit?.measure === 'usd') return usdBeside(used, p.limit.amount as Money)
  return (p.limit?.measure === 'tokens' ? tokens : count)(Number(used))
}

/** What it did in 7 days, by what it said: "6 asked, 1 let pass by a grant". */
export function hitsOf({ hits }: Pick<Policy, 'hits'>): string {
  const words: [number, string][] = [
    [hits.denied, 'denied'],
    [hits.reviewed, 'asked'],
    [hits.granted, 'let pass by a grant'],
    [hits.logged, 'logged'],
  ]
  return words
    .filter(([n]) => n)
    .map(([n, word]) => `${count(n)} ${word}`)
    .join(', ')
}

/** How many of its reviews were approved. */
export function approvedOf({ reviews }: Pick<Policy, 'reviews'>): number {
  return Math.round(Number(reviews.approved_share ?? 0) * reviews.count)
}

/** Where one sees what counts in a limit, for one value of its scope: a user, a run, a tag's usage. */
export function scopePath(limit: NonNullable<Body['limit']>, scope: string): string | null {
  const { per } = limit
  if (!scope) return null
  if (per === 'user') return userPath(scope)
  if (per === 'run') return `/runs/${encodeURIComponent(scope)}`
  if (per === 'model' || per === 'tool') return `/runs?${per}=${encodeURIComponent(scope)}&time=30d`
  return tagPath(limit)
}

/** Where one sees what each value of the tag costs that a limit counts by. */
export function tagPath({ per, window }: NonNullable<Body['limit']>): string | null {
  if (!per.startsWith('tag:')) return null
  const period = window === 'day' || window === 'month' ? window : 'week'
  return `/usage?by=${encodeURIComponent(per)}&period=${period}`
}

/** The policies as a file that `pikarc policies apply` reads: JSON is YAML too. */
export function fileOf(policies: Policy[]): string {
  return JSON.stringify({ policies: policies.map((p) => bodyOf(draftOf(p))) }, null, 2) + '\n'
}

export const effectLooks = {
  deny: { word: 'Deny', shape: 'denied', tone: 'denied' },
  review: { word: 'Ask a person', shape: 'waiting', tone: 'waiting' },
  log: { word: 'Only log', shape: 'stale', tone: 'plain' },
  off: { word: 'Off', shape: 'stale', tone: 'plain' },
} as const satisfies Record<string, { word: string; shape: Shape; tone: string }>

/** "$5.00 a day for each tag agent" without its amount. */
export function period(limit: NonNullable<Body['limit']>): string {
  if (limit.measure === 'repeats') return 'in a row'
  const window = WINDOWS.find(({ value }) => value === limit.window)?.label ?? limit.window
  const per = limit.per.startsWith('tag:') ? `tag ${limit.per.slice(4)}` : limit.per
  const whose = limit.per === 'workspace' || limit.per === 'run' ? '' : ` for each ${per}`
  return (limit.rolling ? `in any ${limit.window}` : window) + whose
}

export type Difference = { field: string; before: string; after: string }

/** What two versions say differently, field by field. */
export function differences(before: unknown, after: unknown): Difference[] {
  const was = fields(before)
  const is = fields(after)
  return [...new Set([...was.keys(), ...is.keys()])]
    .map((field) => ({ field, before: was.get(field) ?? '', after: is.get(field) ?? '' }))
    .filter((d) => d.before !== d.after)
}

function fields(value: unknown, at = '', found = new Map<string, string>()): Map<string, string> {
  if (value && typeof value === 'object' && !Array.isArray(value) && 'toJSON' in value === false) {
    for (const [key, inner] of Object.entries(value)) fields(inner, at ? `${at}.${key}` : key, found)
  } else if (value !== null && value !== undefined && value !== '') {
    found.set(at, typeof value === 'string' ? value : JSON.stringify(value))
  }
  return found
}

/** The ready-made policies, as the binary has them too: they begin as "only log", so that nothing changes before one has seen what they would do. */
export const READY: Body[] = (ready as Body[]).map((policy) => ({ ...policy, effect: 'log' }))

/** Expressions to begin with. */
export const EXAMPLES = [
  'usd(input.amount) > usd(100)',
  'run.spent_usd > usd(1) && run.steps > 50',
  'input.path.matches("^/(etc|root)/")',
  'now.getHours("Europe/Berlin") >= 22',
  'input.?to.orValue("").endsWith("@example.com")',
]
