// A file that a call of the API answers with: streamed by the server, kept by the browser.
import { base } from '../shell/base'
import { session } from '../shell/session.svelte'
import { address } from './client'
import { problemOf, unreachable } from './problem'

export type Format = 'csv' | 'jsonl'

/** Saves what a query of the API finds. What is cut off by the server is no file. */
export async function saveFile(
  path: '/v1/export-runs' | '/v1/usage/by',
  format: Format,
  query: object,
  signal: AbortSignal,
): Promise<void> {
  const url = base + address(path, {}, { format, ...query })
  const headers = { Authorization: `Bearer ${session.token}` }
  let response: Response
  let file: Blob
  try {
    response = await fetch(url, { headers, signal, cache: 'no-store' })
    file = await response.blob()
  } catch (error) {
    throw signal.aborted ? error : unreachable()
  }
  if (!response.ok) {
    const answer: unknown = await file.text().then(
      (text) => JSON.parse(text) as unknown,
      () => null,
    )
    throw problemOf(response.status, response.headers, answer)
  }
  const name = /filename="([^"]+)"/.exec(response.headers.get('Content-Disposition') ?? '')?.[1]
  keep(name ?? `pikarc.${format}`, file)
}

/** Saves a text that the page has made. */
export function saveText(name: string, text: string) {
  keep(name, new Blob([text]))
}

function keep(name: string, file: Blob) {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(file)
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}
