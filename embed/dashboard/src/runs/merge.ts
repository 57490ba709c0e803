import type { Schema } from '../api/client'

type Run = Schema<'RunSummary'>

/** Newest first, as the server lists them. */
export function newestFirst(a: Run, b: Run): number {
  return Date.parse(b.started_at) - Date.parse(a.started_at) || (a.id < b.id ? 1 : -1)
}

/** The same runs in the same places, with what is newly known of them. */
export function patched(runs: Run[], news: Run[]): Run[] {
  const byId = new Map(news.map((run) => [run.id, run]))
  return runs.some((run) => byId.has(run.id)) ? runs.map((run) => byId.get(run.id) ?? run) : runs
}

/** Runs with others put among them, each once. */
export function merged(runs: Run[], others: Run[]): Run[] {
  const known = new Set(runs.map((run) => run.id))
  const added = others.filter((run) => !known.has(run.id))
  return added.length ? [...patched(runs, others), ...added].sort(newestFirst) : patched(runs, others)
}
