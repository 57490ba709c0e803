/** What went wrong with a call, in words for people. */
export class Problem extends Error {
  constructor(
    /** The HTTP status; 0 when no answer came. */
    readonly status: number,
    message: string,
    /** By the name of the field, what is wrong with it (422). */
    readonly fields: Record<string, string> = {},
    /** To quote in a report. */
    readonly requestId = '',
    /** Seconds to wait before the next try. */
    readonly retryAfter = 0,
    /** By the name of the field, where in its text (422 of an expression). */
    readonly places: Record<string, { line: number; column: number }> = {},
  ) {
    super(message)
  }
}

type Entry = { loc: (string | number)[]; msg: string; ctx?: { line?: number; column?: number } }

/** The problem that an answer with an error status tells. */
export function problemOf(status: number, headers: Headers, body: unknown): Problem {
  const detail = (body as { detail?: unknown } | null)?.detail
  const requestId = headers.get('X-Request-Id') ?? ''
  const retryAfter = Number(headers.get('Retry-After')) || 0
  if (Array.isArray(detail)) {
    const fields = fieldsOf(detail as Entry[])
    const message = Object.values(fields).join(' ')
    return new Problem(status, message, fields, requestId, retryAfter, placesOf(detail as Entry[]))
  }
  return new Problem(status, sentence(status, detail), {}, requestId, retryAfter)
}

/** Whether what was asked for does not exist; 422: what was asked for is no id at all. */
export const isMissing = (error: unknown): error is Problem =>
  error instanceof Problem && (error.status === 404 || error.status === 422)

export const unreachable = () =>
  new Problem(0, 'The server did not answer. Check that it is running and that you are online.')

function sentence(status: number, detail: unknown): string {
  if (status >= 500 && status !== 503) return 'The server failed to answer. Try again, or look at its log.'
  if (typeof detail !== 'string' || !detail) return `The server answered with status ${status}.`
  return /[.!?]$/.test(detail) ? detail : detail + '.'
}

function fieldsOf(entries: Entry[]): Record<string, string> {
  const fields: Record<string, string> = {}
  for (const { loc, msg } of entries) {
    const name = String(loc.at(-1) ?? '')
    fields[name] ??= plain(msg)
  }
  return fields
}

function placesOf(entries: Entry[]) {
  const places: Record<string, { line: number; column: number }> = {}
  for (const { loc, ctx } of entries)
    if (ctx?.column) places[String(loc.at(-1) ?? '')] ??= { line: ctx.line ?? 1, column: ctx.column }
  return places
}

// The texts of the API name programming types; people fill in fields.
const words: [RegExp, string][] = [
  [/^Field required$/, 'Fill this in.'],
  [/^String should have at least 1 character$/, 'Fill this in.'],
  [/^String should have at least (\d+) characters$/, 'At least $1 characters.'],
  [/^String should have at most (\d+) characters$/, 'At most $1 characters.'],
  [/^Input should be greater than or equal to (\S+)$/, '$1 or more.'],
  [/^Input should be less than or equal to (\S+)$/, '$1 or less.'],
  [/^Decimal input should have no more than (\d+) decimal places$/, 'At most $1 decimals.'],
  [/^Input should be a valid integer.*$/, 'A whole number.'],
  [/^Input should be a valid decimal.*$/, 'A number, such as 0.25.'],
  [/^Decimal input should be .*$/, 'A number, such as 0.25.'],
  [/^Value error, /, ''],
]

function plain(msg: string): string {
  for (const [pattern, text] of words) {
    if (pattern.test(msg)) return upper(msg.replace(pattern, text))
  }
  return upper(msg)
}

function upper(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1)
  return /[.!?]$/.test(first) ? first : first + '.'
}
