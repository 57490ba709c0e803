import { expect, test } from 'vitest'
import { sseReader } from './sse'

const stream =
  ': awake\n\nevent: hello\ndata: {"at":"now"}\n\nevent: run.started\r\ndata: {"id":\r\ndata: 1}\r\n\r\ndata: plain\n\n'
const events = [
  { event: 'hello', data: '{"at":"now"}' },
  { event: 'run.started', data: '{"id":\n1}' },
  { event: 'message', data: 'plain' },
]

test('events are the same wherever the chunks break', () => {
  for (let size = 1; size <= stream.length; size++) {
    const read = sseReader()
    const seen = []
    for (let at = 0; at < stream.length; at += size) seen.push(...read(stream.slice(at, at + size)))
    expect(seen).toEqual(events)
  }
})

test('what is not ended is not told', () => {
  expect(sseReader()('event: hello\ndata: {}\n')).toEqual([])
})
