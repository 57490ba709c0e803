// What is typed into the search field: words, and conditions such as `cost > 0.5`, `model:gpt-4o`, `agent:billing`.

export type Typed = {
  q: string
  set: Record<string, string>
  add: { name: 'model' | 'tool' | 'tag'; value: string }[]
}

const UNITS: Record<string, number> = { ms: 1, s: 1000, min: 60_000, m: 60_000, h: 3_600_000 }
const COST = /\bcost\s*>=?\s*\$?(\d{1,9}(?:\.\d{1,9})?)(?!\S)/i
const TOOK = /\b(?:duration|took)\s*>=?\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h)?(?!\S)/i
const NAMED = /(?:^|\s)(user|model|tool|tag|agent):("[^"]*"|\S+)/gi

/** Takes conditions out of a text; what is left are words. */
export function parse(text: string): Typed {
  const typed: Typed = { q: '', set: {}, add: [] }
  let rest = text.replace(COST, (_, amount: string) => {
    typed.set.min_cost_usd = amount
    return ' '
  })
  rest = rest.replace(TOOK, (_, amount: string, unit = 's') => {
    typed.set.min_duration_ms = String(Math.round(Number(amount) * UNITS[unit.toLowerCase()]!))
    return ' '
  })
  rest = rest.replace(NAMED, (whole, name: string, sent: string) => {
    const value = sent.replace(/^"|"$/g, '')
    const kind = name.toLowerCase()
    if (!value) return whole
    if (kind === 'user') typed.set.user_id = value
    else if (kind === 'agent') typed.add.push({ name: 'tag', value: `agent:${value}` })
    else if (kind !== 'tag' || value.indexOf(':') > 0) typed.add.push({ name: kind as 'model', value })
    else return whole
    return ' '
  })
  typed.q = rest.replace(/\s+/g, ' ').trim()
  return typed
}
