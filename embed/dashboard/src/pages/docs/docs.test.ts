// The page must hold for the document that the server really serves, and for what other documents may do.
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { curl, quoted } from './curl'
import { type Document, lookUp } from './openapi'
import { blocksOf, spansOf } from './prose'
import { anchorOf, readReference, search } from './reference'
import { type Readable, readSchema } from './schema'

const served = new URL('../../../../../server/openapi.json', import.meta.url)
const document = JSON.parse(readFileSync(served, 'utf8')) as Document
const reference = readReference(document)
const calls = reference.groups.flatMap((group) => group.calls)

function walk(value: unknown, visit: (object: Record<string, unknown>) => void) {
  if (typeof value !== 'object' || value === null) return
  if (!Array.isArray(value)) visit(value as Record<string, unknown>)
  for (const each of Object.values(value)) walk(each, visit)
}

/** Opens a schema to its end and says how many it holds. */
function openAll(schema: Readable, depth = 0): number {
  expect(depth).toBeLessThan(20)
  expect(schema.type).not.toBe('')
  expect(schema.type).not.toContain('undefined')
  const { fields, choices } = schema.inside?.() ?? { fields: [], choices: [] }
  const below = [...fields.map((field) => field.schema), ...choices]
  return below.reduce((sum, each) => sum + openAll(each, depth + 1), 1)
}

test('every reference of the document resolves', () => {
  const refs: string[] = []
  walk(document, (object) => typeof object.$ref === 'string' && refs.push(object.$ref))
  expect(refs.length).toBeGreaterThan(100)
  expect(refs.filter((ref) => lookUp(document, ref) === undefined)).toEqual([])
})

test('every operation of the document is shown, in its group', () => {
  const inDocument = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.keys(item)
      .filter((key) => key !== 'parameters')
      .map((method) => `${method.toUpperCase()} ${path}`),
  )
  expect(calls.map(({ method, path }) => `${method} ${path}`).sort()).toEqual(inDocument.sort())
  expect(reference.groups.map(({ name }) => name)).toEqual(document.tags!.map(({ name }) => name))
})

test('every anchor is unique, and none is an id of the page', () => {
  const anchors = [...reference.groups, ...calls].map(({ anchor }) => anchor)
  expect(new Set(anchors).size).toBe(anchors.length)
  for (const anchor of anchors) expect(anchor).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/)
  expect(anchors).not.toContain('content')
  expect(anchors).toContain('post-v1-runs')
  expect(anchors).toContain('patch-v1-runs-run-id-steps-step-id')
})

test('paths that would share an anchor get their own', () => {
  const get = { responses: {} }
  const twins = readReference({
    info: { title: '', version: '' },
    paths: { '/a/b': { get }, '/a-b': { get } },
  })
  expect(twins.groups[0]!.calls.map(({ anchor }) => anchor)).toEqual(['get-a-b', 'get-a-b-2'])
})

test.each(calls.map((call) => [`${call.method} ${call.path}`, call] as const))(
  '%s can be read',
  (_, call) => {
    expect(call.method).toMatch(/^[A-Z]+$/)
    expect(call.path).toMatch(/^\//)
    expect(call.summary).not.toBe('')
    expect(call.callers).not.toMatch(/holders of|undefined/)
    expect(call.answers.length).toBeGreaterThan(0)
    const media = [...(call.body?.media ?? []), ...call.answers.flatMap((answer) => answer.media)]
    for (const { schema } of media) openAll(schema!)
    for (const { schema } of call.parameters) openAll(schema)
    for (const schema of call.named) openAll(schema)
    for (const answer of call.answers) expect(answer.description).not.toBe('')
  },
)

test.each(calls.map((call) => [call.anchor, call] as const))('%s has a request to paste', (_, call) => {
  const text = curl('http://localhost:8000', call.request)
  expect(text).toContain('http://localhost:8000/')
  expect(text).not.toMatch(/[{}]\/|\/\{|undefined|@body/)
  expect(text.includes('Authorization')).toBe(call.request.credential !== '')
})

test('a request carries the credential, the example body and the names in its path', () => {
  const start = calls.find(({ anchor }) => anchor === 'post-v1-runs')!
  expect(curl('https://pikarc.example/', start.request)).toBe(
    `curl -sS -X POST https://pikarc.example/v1/runs/ \\
  -H "Authorization: Bearer $PIKARC_API_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '{"user_id":"user-42","metadata":{"agent":"research","ticket":1873}}'`,
  )
  const unblock = calls.find(({ anchor }) => anchor === 'delete-v1-blocked-users-user-id')!
  expect(curl('', unblock.request)).toContain('-X DELETE /v1/blocked-users/acme%2Fuser-42')
  expect(quoted("it's $HOME")).toBe(`'it'\\''s $HOME'`)
})

test('types and limits are told in words', () => {
  const read = (name: string) => readSchema(document, { $ref: `#/components/schemas/${name}` })
  expect(read('BudgetInput')).toMatchObject({ type: 'number or string', nullable: true, inside: null })
  expect(read('BudgetInput').limits[0]).toBe('number: from 0 to 1,000,000,000')
  expect(read('UserId').limits).toEqual(['from 1 to 255 characters'])
  expect(read('RunStatus').values).toContain('RUNNING')
  const { fields } = read('RunDetail').inside!()
  const steps = fields.find(({ name }) => name === 'steps')!
  expect(steps).toMatchObject({
    required: true,
    schema: { type: 'array of Step', limits: ['at most 500 items'] },
  })
  expect(steps.schema.inside!().fields.map(({ name }) => name)).toContain('cost_usd')
  expect(read('StreamEvent').inside!().choices.length).toBeGreaterThan(5)
})

test('the events of the stream can be read', () => {
  const watch = calls.find(({ anchor }) => anchor === 'get-v1-events')!
  expect(watch.named.map(({ name }) => name)).toContain('StreamEvent')
})

test('schemas that contain themselves end', () => {
  const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` })
  const schemas = {
    Tree: { type: 'object', properties: { left: ref('Tree'), all: { type: 'array', items: ref('Tree') } } },
    Self: ref('Self'),
    List: { type: 'array', items: ref('List') },
    Choice: { oneOf: [{ type: 'string' }, ref('Choice')] },
    Both: { allOf: [ref('Both'), { properties: { a: { type: 'string' } }, required: ['a'] }] },
  }
  const circles: Document = { info: { title: '', version: '' }, paths: {}, components: { schemas } }
  const read = (name: string) => readSchema(circles, ref(name))
  for (const name of Object.keys(schemas)) openAll(read(name))
  const [left, all] = read('Tree').inside!().fields
  expect(left!.schema).toMatchObject({ repeats: true, inside: null })
  expect(all!.schema).toMatchObject({ type: 'array of Tree', repeats: true })
  expect(read('Both').inside!().fields).toMatchObject([{ name: 'a', required: true }])
})

test('calls are found by method, path and summary', () => {
  const found = (q: string) =>
    search(reference.groups, q).flatMap((group) => group.calls.map((c) => c.anchor))
  expect(found('').length).toBe(calls.length)
  expect(found('POST heartbeat')).toEqual(['post-v1-runs-run-id-heartbeat'])
  expect(found('stop all agents')).toEqual(['post-v1-workspace-kill-switch'])
  expect(found('nothing like it')).toEqual([])
  expect(anchorOf('get', '/openapi.json')).toBe('get-openapi-json')
})

test('descriptions become pieces of text, never markup', () => {
  expect(spansOf('**Now** `a*b` <b>')).toEqual([
    { kind: 'strong', text: 'Now' },
    { kind: 'text', text: ' ' },
    { kind: 'code', text: 'a*b' },
    { kind: 'text', text: ' <b>' },
  ])
  expect(spansOf('shown as `***`.')[1]).toEqual({ kind: 'code', text: '***' })
  expect(blocksOf('One\nline.\n\n| a | b |\n|---|---|\n| 1 | `2` |').map(({ kind }) => kind)).toEqual([
    'paragraph',
    'table',
  ])
  walk(document, ({ description }) => {
    if (typeof description !== 'string') return
    const spans = blocksOf(description).flatMap((block) => (block.kind === 'paragraph' ? block.spans : []))
    // What is left as text would show its marks to the reader.
    for (const { kind, text } of spans) if (kind === 'text') expect(text).not.toMatch(/[*`]|^- |\]\(/)
  })
})
