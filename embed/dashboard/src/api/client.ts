// A typed client of the server's own API: paths, parameters and answers come from its OpenAPI document.
import { untrack } from 'svelte'
import { base } from '../shell/base'
import { session } from '../shell/session.svelte'
import { early } from './early'
import { type Money, parseExact } from './exact'
import { Problem, problemOf, unreachable } from './problem'
import type { components, paths } from './schema'

export type { Money }
export { Problem }

/** A schema of the OpenAPI document, by name, with amounts as Money. */
export type Schema<Name extends keyof components['schemas']> = components['schemas'][Name]

type Method = 'get' | 'post' | 'put' | 'patch' | 'delete'
type PathWith<M extends Method> = {
  [P in keyof paths]: paths[P][M] extends undefined ? never : P
}[keyof paths]
type Operation<P extends keyof paths, M extends Method> = NonNullable<paths[P][M]>
type Json<T> = T extends { content: { 'application/json': infer Body } } ? Body : never
type Answer<O> = O extends { responses: infer R }
  ? Json<R extends { 200: infer A } ? A : R extends { 201: infer A } ? A : never>
  : never
type Sent<O> = O extends { requestBody?: infer B } ? Json<NonNullable<B>> : never

type Query<O> = O extends { parameters: { query?: infer Q } } ? Q : never
type Options<O> = {
  /** Values for the {names} in the path. */
  path?: Record<string, string>
  query?: Query<O>
  body?: Sent<O>
  signal?: AbortSignal
}

async function send<P extends keyof paths, M extends Method>(
  method: M,
  path: P,
  options: Options<Operation<P, M>> = {},
): Promise<Answer<Operation<P, M>>> {
  const { body, signal } = options
  const token = untrack(() => session.token)
  const headers: Record<string, string> = { Accept: 'application/json' }
  if (token) headers.Authorization = `Bearer ${token}`
  if (body !== undefined) headers['Content-Type'] = 'application/json'
  const url = address(path, options.path, options.query)
  const asked =
    (method === 'get' && early(url, token)) ||
    fetch(base + url, {
      method: method.toUpperCase(),
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal: signal ?? null,
      cache: 'no-store',
    }).then(async (response) => ({ response, text: await response.text() }))
  const { response, text } = await asked.catch((error) => {
    throw signal?.aborted ? error : unreachable()
  })
  const answer = read(response, text)
  if (response.ok) return answer as Answer<Operation<P, M>>
  // A wrong password also answers 401, but no token was sent with it.
  if (response.status === 401 && token) session.expire(token)
  throw problemOf(response.status, response.headers, answer)
}

function read(response: Response, text: string): unknown {
  try {
    return text ? parseExact(text) : null
  } catch {
    if (response.ok)
      throw new Problem(response.status, 'The answer was not understood: is this the Pikarc server?')
    return null
  }
}

/** The URL of a call, without the base path. A user id or a model may contain anything, slashes too. */
export function address(path: string, names: Record<string, string> = {}, query: object = {}): string {
  const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = names[name] ?? ''
    // Browsers resolve these two even when they are escaped, so the call would reach another path.
    if (value === '.' || value === '..')
      throw new Problem(0, `A browser cannot send “${value}” in a path. Use the API from a program.`)
    return encodeURIComponent(value)
  })
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query)) {
    if (Array.isArray(value)) for (const one of value) search.append(name, String(one))
    else if (value !== undefined && value !== null && value !== '') search.set(name, String(value))
  }
  const text = search.toString()
  return text ? `${filled}?${text}` : filled
}

export const api = {
  get: <P extends PathWith<'get'>>(path: P, options?: Options<Operation<P, 'get'>>) =>
    send('get', path, options),
  post: <P extends PathWith<'post'>>(path: P, options?: Options<Operation<P, 'post'>>) =>
    send('post', path, options),
  put: <P extends PathWith<'put'>>(path: P, options?: Options<Operation<P, 'put'>>) =>
    send('put', path, options),
  patch: <P extends PathWith<'patch'>>(path: P, options?: Options<Operation<P, 'patch'>>) =>
    send('patch', path, options),
  delete: <P extends PathWith<'delete'>>(path: P, options?: Options<Operation<P, 'delete'>>) =>
    send('delete', path, options),
}
