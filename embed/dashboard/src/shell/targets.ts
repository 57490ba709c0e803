// What "Ctrl K" finds.
export type Target = { group: string; title: string; path: string; hint?: string }

const runId = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

/** Whether a text is the whole id of a run. */
export const isRunId = (text: string) => runId.test(text.trim().toLowerCase())

/** Whether each word of what was typed begins, or is within, a word of the title; the better ones first. */
export function matching(targets: Target[], typed: string): Target[] {
  const words = typed.trim().toLowerCase().split(/\s+/).filter(Boolean)
  const place = ({ title }: Target) => {
    const text = title.toLowerCase()
    const at = words.map((word) => text.indexOf(word))
    return at.includes(-1) ? -1 : Math.min(...at, 99)
  }
  return targets
    .map((target) => ({ target, at: place(target) }))
    .filter(({ at }) => at >= 0)
    .sort((a, b) => a.at - b.at)
    .map(({ target }) => target)
}

/** A title in pieces, those that were typed marked. */
export function marked(title: string, typed: string): { text: string; hit: boolean }[] {
  const word = typed.trim().toLowerCase().split(/\s+/)[0] ?? ''
  const at = word ? title.toLowerCase().indexOf(word) : -1
  if (at < 0) return [{ text: title, hit: false }]
  return [
    { text: title.slice(0, at), hit: false },
    { text: title.slice(at, at + word.length), hit: true },
    { text: title.slice(at + word.length), hit: false },
  ].filter(({ text }) => text)
}
