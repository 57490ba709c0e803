import { describe, expect, it } from 'vitest'
import { answered, argsOf, sent } from './conversation'

describe('a conversation', () => {
  it('is read as each provider writes it', () => {
    const refund = { name: 'refund', args: 'order A, amount 95' }
    expect(
      sent({
        system: 'Be kind',
        messages: [
          {
            role: 'user',
            content: [
              { type: 'text', text: 'Hi' },
              { type: 'image_url', image_url: {} },
            ],
          },
          {
            role: 'assistant',
            content: [{ type: 'tool_use', name: 'refund', input: { order: 'A', amount: 95 } }],
          },
          { role: 'user', content: [{ type: 'tool_result', content: 'done' }] },
          { role: 'tool', name: 'search', content: '27' },
        ],
      }),
    ).toEqual([
      { who: 'system', text: 'Be kind', calls: [] },
      { who: 'user', text: 'Hi\n\n(image url)', calls: [] },
      { who: 'assistant', text: '', calls: [refund] },
      { who: 'tool', text: 'done', calls: [] },
      { who: 'tool search', text: '27', calls: [] },
    ])
    const call = { type: 'function', function: { name: 'refund', arguments: '{"order":"A","amount":95}' } }
    const said = [{ who: 'assistant', text: 'So', calls: [refund] }]
    expect(
      answered({ choices: [{ message: { role: 'assistant', content: 'So', tool_calls: [call] } }] }),
    ).toEqual(said)
    expect(answered({ role: 'assistant', content: 'So', tool_calls: [call] })).toEqual(said)
    expect(
      answered({
        output: [{ type: 'message', role: 'assistant', content: [{ type: 'output_text', text: 'So' }] }],
      }),
    ).toEqual([{ who: 'assistant', text: 'So', calls: [] }])
    expect(answered({ output: [{ type: 'function_call', name: 'f', arguments: '{}' }] })[0]!.calls).toEqual([
      { name: 'f', args: '' },
    ])
    expect(sent({ contents: [{ role: 'user', parts: [{ text: 'Hi' }] }] })).toEqual([
      { who: 'user', text: 'Hi', calls: [] },
    ])
    expect(sent({ instructions: 'x', input: 'Hi' })[1]).toEqual({ who: 'user', text: 'Hi', calls: [] })
    expect(answered('A mathematician.')).toEqual([{ who: 'assistant', text: 'A mathematician.', calls: [] }])
  })

  it('is none where a payload is data', () => {
    for (const data of [null, 7, [], {}, { rows: [1] }, { messages: [] }, { messages: [null, 5] }]) {
      expect(sent(data)).toEqual([])
      expect(answered(data)).toEqual([])
    }
    expect(sent({ query: 'x', limit: 3, page: 1 })).toEqual([])
    expect(argsOf('not JSON')).toBe('not JSON')
  })
})
