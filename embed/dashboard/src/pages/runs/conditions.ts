// The filters that stand as chips in the search field, in words.
import { duration } from '../../format/time'

export type Condition = { name: string; value: string; word: string; shown: string }

const NAMES = [
  'q',
  'user_id',
  'user_prefix',
  'model',
  'tool',
  'tag',
  'min_cost_usd',
  'min_duration_ms',
  'key',
]

export function conditionsOf(query: URLSearchParams): Condition[] {
  return NAMES.flatMap((name) =>
    query
      .getAll(name)
      .filter(Boolean)
      .map((value) => ({ name, value, ...words(name, value) })),
  )
}

function words(name: string, value: string): { word: string; shown: string } {
  if (name === 'tag' && value.indexOf(':') > 0) {
    const at = value.indexOf(':')
    return { word: value.slice(0, at), shown: value.slice(at + 1) }
  }
  if (name === 'min_cost_usd') return { word: 'cost from', shown: '$' + value }
  if (name === 'min_duration_ms') return { word: 'duration from', shown: duration(Number(value) || 0) }
  if (name === 'q') return { word: 'words', shown: value }
  if (name === 'key') return { word: 'API key', shown: value.slice(0, 8) }
  if (name === 'user_prefix') return { word: 'users', shown: value + '*' }
  return { word: name === 'user_id' ? 'user' : name, shown: value }
}

/** The address's query without one condition, or with another value of it. */
export function without(query: URLSearchParams, name: string, value: string): string {
  const all = new URLSearchParams(query)
  const rest = all.getAll(name).filter((one) => one !== value)
  all.delete(name)
  for (const one of rest) all.append(name, one)
  return all.toString()
}
