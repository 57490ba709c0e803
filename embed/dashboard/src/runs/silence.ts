// How long a run has made no call, and after how long one may think that its agent is gone.
import type { Schema } from '../api/client'

export const silences = [
  { value: '300', label: '5 minutes' },
  { value: '900', label: '15 minutes' },
  { value: '3600', label: '1 hour' },
  { value: '21600', label: '6 hours' },
]

/** In seconds. */
export function silentFor(run: Pick<Schema<'RunSummary'>, 'last_call_at'>, now: number): number {
  return Math.max(0, now - Date.parse(run.last_call_at)) / 1000
}

/** Where the holders of slots are listed, below the base path. */
export const HOLDERS = '/runs?status=RUNNING&sort=last_call'
