// An example request that can be pasted into a shell.
export type Request = {
  method: string
  path: string
  /** Values for the {names} in the path. */
  names: Record<string, string>
  query: Record<string, string>
  headers: Record<string, string>
  /** The shell variable that holds the credential. */
  credential: string
  /** The body as text; undefined when there is none, null when the document shows no example of it. */
  body: string | null | undefined
  contentType: string
  /** Whether the answer stays open. */
  stream: boolean
}

export function curl(server: string, request: Request): string {
  const { method, names, query, headers, credential, body, contentType, stream } = request
  const path = request.path.replace(/\{(\w+)\}/g, (all, name: string) =>
    Object.hasOwn(names, name) ? encodeURIComponent(names[name]!) : all,
  )
  const search = new URLSearchParams(query).toString()
  const url = server.replace(/\/+$/, '') + path + (search ? '?' + search : '')
  const verb = method.toUpperCase()
  const first = ['curl -sS', stream && '-N', verb !== 'GET' && `-X ${verb}`, shellWord(url)]
  const lines = [first.filter(Boolean).join(' ')]
  if (credential) lines.push('-H "Authorization: Bearer $' + credential + '"')
  for (const [name, value] of Object.entries(headers)) lines.push(`-H ${quoted(`${name}: ${value}`)}`)
  if (body !== undefined) {
    lines.push(`-H ${quoted(`Content-Type: ${contentType}`)}`)
    lines.push(body === null ? '-d @body.json' : `-d ${quoted(body)}`)
  }
  return lines.join(' \\\n  ')
}

/** In single quotes nothing means anything to a shell but the single quote. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

function shellWord(text: string): string {
  return /^[\w@%+=:,./~-]+$/.test(text) ? text : quoted(text)
}
