// Payloads that are conversations, as the APIs of the large providers write them: chat completions, responses,
// messages, contents. What is none is shown as JSON alone.

export type Call = { name: string; args: string }
export type Message = { who: string; text: string; calls: Call[] }

type Fields = Record<string, unknown>
const isObject = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const listOf = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])
const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

/** The messages of what was sent; none where it is no conversation. */
export function sent(input: unknown): Message[] {
  if (!isObject(input)) return []
  const list = [input.messages, input.contents, input.input].find(
    (value) => Array.isArray(value) && value.length,
  )
  const messages = listOf(list).flatMap((value) => messageOf(value, 'user'))
  const system = input.system ?? input.instructions
  const first = system === undefined ? [] : messageOf({ role: 'system', content: system }, 'system')
  if (messages.length) return [...first, ...messages]
  for (const name of ['prompt', 'question', 'query', 'input']) {
    if (textOf(input[name]) && Object.keys(input).length <= 2)
      return [...first, { who: 'user', text: textOf(input[name]), calls: [] }]
  }
  return []
}

/** The messages of an answer; none where it is data. */
export function answered(output: unknown): Message[] {
  if (typeof output === 'string') return output ? [{ who: 'assistant', text: output, calls: [] }] : []
  if (!isObject(output)) return []
  const choices = [...listOf(output.choices), ...listOf(output.candidates)]
  if (choices.length) {
    return choices.flatMap((choice) =>
      isObject(choice) ? messageOf(choice.message ?? choice.content ?? choice, 'assistant') : [],
    )
  }
  if (Array.isArray(output.output)) return output.output.flatMap((value) => messageOf(value, 'assistant'))
  if (output.role !== undefined || output.content !== undefined) return messageOf(output, 'assistant')
  return []
}

function messageOf(value: unknown, who: string): Message[] {
  if (typeof value === 'string') return [{ who, text: value, calls: [] }]
  if (!isObject(value)) return []
  const name = textOf(value.name)
  const role = textOf(value.role) || who
  const message: Message = { who: role === 'tool' && name ? `tool ${name}` : role, text: '', calls: [] }
  const texts: string[] = []
  const parts = Array.isArray(value.content) ? value.content : listOf(value.parts)
  if (typeof value.content === 'string') texts.push(value.content)
  for (const part of parts) addPart(part, message, texts)
  for (const call of listOf(value.tool_calls)) addPart(call, message, texts)
  if (!parts.length && typeof value.type === 'string') addPart(value, message, texts)
  message.text = texts.filter(Boolean).join('\n\n')
  return message.text || message.calls.length ? [message] : []
}

function addPart(part: unknown, message: Message, texts: string[]) {
  if (typeof part === 'string') return void texts.push(part)
  if (!isObject(part)) return
  const named = isObject(part.function)
    ? part.function
    : isObject(part.functionCall)
      ? part.functionCall
      : part
  const args = named.arguments ?? named.args ?? (part.type === 'tool_use' ? part.input : undefined)
  if (textOf(named.name) && (args !== undefined || part.function || part.type === 'tool_use')) {
    return void message.calls.push({ name: textOf(named.name), args: argsOf(args) })
  }
  if (part.type === 'tool_result' || part.type === 'function_call_output') {
    message.who = 'tool'
    const result = part.content ?? part.output
    if (typeof result === 'string') texts.push(result)
    else for (const inner of listOf(result)) addPart(inner, message, texts)
    return
  }
  const text = textOf(part.text) || textOf(part.thinking) || textOf(part.refusal)
  if (text) texts.push(text)
  else if (typeof part.type === 'string' && /image|audio|file|document|video/.test(part.type))
    texts.push(`(${part.type.replaceAll('_', ' ')})`)
}

/** Arguments as `order A-20391, amount 180.00`; what is nested stays JSON. */
export function argsOf(args: unknown): string {
  if (typeof args === 'string') {
    try {
      const parsed: unknown = JSON.parse(args)
      return isObject(parsed) ? argsOf(parsed) : args
    } catch {
      return args
    }
  }
  if (!isObject(args)) return args === undefined ? '' : JSON.stringify(args)
  return Object.entries(args)
    .map(([name, value]) => `${name} ${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(', ')
}
