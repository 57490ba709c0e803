// The API reference as the page shows it: calls by group, each with its anchor, read from the OpenAPI document.
import type { Request } from './curl'
import { type BodyObject, type Document, follow, type HeaderObject, type MediaObject } from './openapi'
import { type Method, methods, type OperationObject, type ParameterObject, type PathItem } from './openapi'
import { type Field, type Readable, readSchema } from './schema'

export type Example = { title: string; text: string }
export type Media = { type: string; schema: Readable | null; examples: Example[] }
export type Answer = { status: string; description: string; headers: Field[]; media: Media[] }
export type Call = {
  anchor: string
  method: Uppercase<Method>
  path: string
  summary: string
  description: string
  /** Who may call it, in words. */
  callers: string
  parameters: Field[]
  body: { required: boolean; description: string; media: Media[] } | null
  answers: Answer[]
  /** Schemas that only the description names, such as those of events. */
  named: Readable[]
  request: Request
}
export type Group = { anchor: string; name: string; description: string; calls: Call[] }
export type Credential = { name: string; format: string; description: string }
export type Reference = {
  title: string
  version: string
  description: string
  /** Where the calls go, beneath the address of this page. */
  base: string
  credentials: Credential[]
  groups: Group[]
}

const isMethod = (key: string): key is Method => (methods as readonly string[]).includes(key)

/** Ids that the page itself uses. */
const taken = ['app', 'content', 'introduction', 'authentication']

export function readReference(document: Document): Reference {
  const anchors = new Set(taken)
  const groups = new Map<string, Group>()
  const groupOf = (name: string, description = '') => {
    const known = groups.get(name)
    if (known) return known
    const group: Group = { anchor: free(slug(name), anchors), name, description, calls: [] }
    groups.set(name, group)
    return group
  }
  for (const { name, description } of document.tags ?? []) groupOf(name, description)
  for (const [path, item] of Object.entries(document.paths)) {
    // In the order of the document, which tells how calls follow each other.
    for (const method of Object.keys(item).filter(isMethod)) {
      const operation = item[method]
      if (!operation) continue
      const anchor = free(anchorOf(method, path), anchors)
      groupOf(operation.tags?.[0] ?? 'Other').calls.push(
        callOf(document, anchor, method, path, item, operation),
      )
    }
  }
  return {
    title: document.info.title,
    version: document.info.version,
    description: document.info.description ?? '',
    base: document.servers?.[0]?.url ?? '/',
    credentials: Object.entries(document.components?.securitySchemes ?? {}).map(([id, scheme]) => ({
      name: credentialName(id),
      format: scheme.bearerFormat ?? '',
      description: scheme.description ?? '',
    })),
    groups: [...groups.values()].filter((group) => group.calls.length > 0),
  }
}

/** `post` and `/v1/runs/{run_id}/steps` make `post-v1-runs-run-id-steps`. */
export function anchorOf(method: string, path: string): string {
  return slug(`${method} ${path}`)
}

function slug(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
}

function free(wanted: string, anchors: Set<string>): string {
  let anchor = wanted
  for (let n = 2; anchors.has(anchor); n++) anchor = `${wanted}-${n}`
  anchors.add(anchor)
  return anchor
}

/** The groups with the calls that have every word of `q` in their method, path or summary. */
export function search(groups: Group[], q: string): Group[] {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean)
  return groups
    .map((group) => ({
      ...group,
      calls: group.calls.filter(({ method, path, summary }) => {
        const text = `${method} ${path} ${summary}`.toLowerCase()
        return words.every((word) => text.includes(word))
      }),
    }))
    .filter((group) => group.calls.length > 0)
}

function callOf(
  document: Document,
  anchor: string,
  method: Method,
  path: string,
  item: PathItem,
  operation: OperationObject,
): Call {
  const parameters = parametersOf(document, item, operation)
  const body = operation.requestBody ? follow<BodyObject>(document, operation.requestBody) : null
  const media = body ? mediaOf(document, body.content) : []
  const answers = Object.entries(operation.responses).map(([status, response]) => {
    const { description = '', headers = {}, content } = follow(document, response)
    return { status, description, headers: headersOf(document, headers), media: mediaOf(document, content) }
  })
  const description = operation.description ?? ''
  const security = operation.security ?? document.security ?? []
  const valuesIn = (place: string) => Object.fromEntries(exampleValues(parameters, place))
  return {
    anchor,
    method: method.toUpperCase() as Uppercase<Method>,
    path,
    summary: operation.summary ?? `${method.toUpperCase()} ${path}`,
    description,
    callers: callersOf(security),
    parameters: parameters.map((each) => fieldOf(document, each.name, each, each.in)),
    body: body && { required: body.required ?? false, description: body.description ?? '', media },
    answers,
    named: namedIn(document, description, answers),
    request: {
      method,
      path,
      names: valuesIn('path'),
      query: valuesIn('query'),
      headers: valuesIn('header'),
      credential: credentialVariable(security),
      body: body ? compactExample(Object.entries(body.content ?? {})[0]) : undefined,
      contentType: Object.keys(body?.content ?? {})[0] ?? 'application/json',
      stream: answers.some((answer) => answer.media.some(({ type }) => type === 'text/event-stream')),
    },
  }
}

// Those of the operation come before those of its path with the same name and place.
function parametersOf(document: Document, item: PathItem, operation: OperationObject): ParameterObject[] {
  const all = [...(item.parameters ?? []), ...(operation.parameters ?? [])]
  const byName = new Map<string, ParameterObject>()
  for (const each of all) {
    const parameter = follow<ParameterObject>(document, each)
    byName.set(`${parameter.in} ${parameter.name}`, parameter)
  }
  return [...byName.values()]
}

function headersOf(document: Document, headers: Record<string, HeaderObject | { $ref: string }>): Field[] {
  return Object.entries(headers).map(([name, header]) =>
    fieldOf(document, name, follow<HeaderObject>(document, header)),
  )
}

function fieldOf(document: Document, name: string, from: HeaderObject, place?: string): Field {
  const schema = readSchema(document, from.schema ?? {})
  return {
    name,
    required: from.required ?? false,
    ...(place && { place }),
    schema: { ...schema, description: from.description ?? schema.description },
  }
}

// What must be sent. What may be left out is left out of the example too.
function exampleValues(parameters: ParameterObject[], place: string): [string, string][] {
  return parameters
    .filter((each) => each.in === place && each.required)
    .map((each) => [each.name, String(each.example ?? each.name)])
}

function mediaOf(document: Document, content: Record<string, MediaObject> = {}): Media[] {
  return Object.entries(content).map(([type, media]) => ({
    type,
    schema: media.schema ? readSchema(document, media.schema) : null,
    examples: examplesOf(media).map(({ title, value }) => ({ title, text: textOf(value, 2) })),
  }))
}

function examplesOf(media: MediaObject): { title: string; value: unknown }[] {
  if (media.example !== undefined) return [{ title: '', value: media.example }]
  return Object.entries(media.examples ?? {}).map(([name, { summary, value }]) => ({
    title: summary ?? name,
    value,
  }))
}

function compactExample([type, media]: [string, MediaObject] | [] = []): string | null {
  const first = media && examplesOf(media)[0]
  if (!first) return null
  if (type === 'application/x-www-form-urlencoded') {
    return new URLSearchParams(first.value as Record<string, string>).toString()
  }
  return textOf(first.value)
}

const textOf = (value: unknown, indent?: number) =>
  typeof value === 'string' ? value : JSON.stringify(value, null, indent)

// The description of a stream names the schemas of its events, which no answer can refer to.
function namedIn(document: Document, description: string, answers: Answer[]): Readable[] {
  if (!answers.some((answer) => answer.media.some(({ type }) => type === 'text/event-stream'))) return []
  const names = new Set([...description.matchAll(/`(\w+)`/g)].map((match) => match[1]!))
  return [...names]
    .filter((name) => document.components?.schemas && Object.hasOwn(document.components.schemas, name))
    .map((name) => readSchema(document, { $ref: `#/components/schemas/${name}` }))
}

const credentialNames: Record<string, string> = {
  apiKey: 'API key',
  adminKey: 'API key of scope admin',
  token: 'Account token',
}
const callersByCredential: Record<string, string> = {
  apiKey: 'agents with an API key',
  adminKey: 'scripts with an API key of scope admin',
  token: 'people with the token of their account',
}

function credentialName(id: string): string {
  return credentialNames[id] ?? id
}

function callersOf(security: Record<string, string[]>[]): string {
  const ids = security.flatMap((each) => Object.keys(each))
  if (ids.length === 0) return 'anyone, without a credential'
  return ids.map((id) => callersByCredential[id] ?? `holders of ${id}`).join(', or ')
}

function credentialVariable(security: Record<string, string[]>[]): string {
  const ids = security.flatMap((each) => Object.keys(each))
  if (ids.length === 0) return ''
  return ids.includes('apiKey') ? 'PIKARC_API_KEY' : 'PIKARC_TOKEN'
}
