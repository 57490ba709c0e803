// The second line of a run in a list: only where there is something to say.
import type { Schema } from '../api/client'
import { count } from '../format/count'
import { reasonLabel, reasonSentence } from '../format/reasons'
import { age, duration } from '../format/time'
import { silentFor } from './silence'

type Run = Schema<'RunSummary'>
/** A step of a run that waits for a person. */
export type Waiting = { id: string; name: string; expires_at: string }
export type Note = { text: string; tone?: 'waiting'; path?: string }

const QUIET = 300 // seconds without a call, after which its agent may be gone

/** Whether a running run has been silent for so long that its agent may be gone. */
export const isQuiet = (run: Run, now: number) => run.status === 'RUNNING' && silentFor(run, now) > QUIET

export function noteOf(
  run: Run,
  now: number,
  waits?: Waiting,
  step?: Schema<'LatestStep'> | null,
): Note | null {
  if (run.status === 'RUNNING' && waits) {
    const left = Math.max(0, Date.parse(waits.expires_at) - now)
    const text = `waits for a person: ${waits.name}, ${duration(left - (left % 1000))} left`
    return { text, tone: 'waiting', path: '/reviews?review=' + waits.id }
  }
  if (isQuiet(run, now)) return { text: `last call ${age(run.last_call_at, now)}`, tone: 'waiting' }
  if (run.status === 'BLOCKED' && run.deny_reason) return { text: reasonSentence(run.deny_reason) }
  if (run.status === 'FAILED' && run.ended_reason === 'IDLE_TIMEOUT')
    return { text: 'Ended as idle: its agent made no call any more.' }
  if (run.status === 'FAILED' && run.ended_reason === 'DASHBOARD') return { text: 'Ended by a person.' }
  if (run.blocked_step_count > 0) {
    const why = run.deny_reason ? `: ${reasonLabel(run.deny_reason)}` : ''
    return { text: `${count(run.blocked_step_count)} of ${count(run.step_count)} steps denied${why}` }
  }
  if (run.status === 'RUNNING' && step) {
    const name = step.model ?? step.tool_name ?? step.type.toLowerCase().replace('_', ' ')
    return { text: `${name}, ${age(step.created_at, now)}` }
  }
  return null
}
