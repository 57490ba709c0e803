// A file of exactly the runs that are listed: streamed by the server, kept by the browser.
import { address } from '../../api/client'
import { problemOf, unreachable } from '../../api/problem'
import { base } from '../../shell/base'
import { session } from '../../shell/session.svelte'

export type Format = 'csv' | 'jsonl'

/** Saves the runs that a query of the API finds. What is cut off by the server is no file. */
export async function saveRuns(format: Format, query: object, signal: AbortSignal): Promise<void> {
  const url = base + address('/v1/export-runs', {}, { format, ...query })
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
  const link = document.createElement('a')
  link.href = URL.createObjectURL(file)
  link.download = name ?? `pikarc-runs.${format}`
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}
