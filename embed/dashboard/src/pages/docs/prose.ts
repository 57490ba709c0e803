// The descriptions of the document use a little Markdown: paragraphs, tables, **strong** and `code`. It is read into
// pieces that are drawn as text, so nothing in it can become markup.
export type Span = { kind: 'text' | 'strong' | 'code'; text: string }
export type Block = { kind: 'paragraph'; spans: Span[] } | { kind: 'table'; head: Span[][]; rows: Span[][][] }

export function spansOf(text: string): Span[] {
  const spans: Span[] = []
  let end = 0
  for (const match of text.matchAll(/`([^`]+)`|\*\*(.+?)\*\*/g)) {
    if (match.index > end) spans.push({ kind: 'text', text: text.slice(end, match.index) })
    const code = match[1]
    spans.push(code !== undefined ? { kind: 'code', text: code } : { kind: 'strong', text: match[2]! })
    end = match.index + match[0].length
  }
  if (end < text.length) spans.push({ kind: 'text', text: text.slice(end) })
  return spans
}

export function blocksOf(text: string): Block[] {
  return text
    .split(/\n{2,}/)
    .map((part) => part.trim())
    .filter(Boolean)
    .map(blockOf)
}

function blockOf(part: string): Block {
  const lines = part.split('\n')
  const isTable =
    lines.length > 2 && lines.every((line) => /^\|.*\|$/.test(line)) && /^[|\s:-]+$/.test(lines[1]!)
  if (!isTable) return { kind: 'paragraph', spans: spansOf(lines.join(' ')) }
  const [head, , ...rows] = lines.map(cellsOf)
  return { kind: 'table', head: head!, rows }
}

const cellsOf = (line: string) =>
  line
    .slice(1, -1)
    .split('|')
    .map((cell) => spansOf(cell.trim()))
