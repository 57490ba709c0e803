/** One event of a stream: its name and its line of JSON. */
export type Message = { event: string; data: string }

/** Cuts a stream of text into events. Chunks may break anywhere, between \r and \n too. */
export function sseReader(): (chunk: string) => Message[] {
  let rest = ''
  let event = ''
  let data: string[] = []

  const line = (text: string): Message | null => {
    if (text === '') {
      const message = data.length ? { event: event || 'message', data: data.join('\n') } : null
      event = ''
      data = []
      return message
    }
    const at = text.indexOf(':')
    if (at === 0) return null
    const name = at < 0 ? text : text.slice(0, at)
    const value = at < 0 ? '' : text.slice(at + 1).replace(/^ /, '')
    if (name === 'event') event = value
    if (name === 'data') data.push(value)
    return null
  }

  return (chunk) => {
    const lines = (rest + chunk).split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    return lines.map(line).filter((message) => message !== null)
  }
}
