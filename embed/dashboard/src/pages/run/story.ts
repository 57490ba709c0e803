// What happened to a run, as a sentence.
import { reopens, why } from '../../format/reasons'
import type { RunDetail } from './detail.svelte'

export type Story = { tone: 'denied' | 'waiting'; text: string } | null

/** Why the run was stopped or ended; null where its status says all. */
export function story(run: RunDetail, now: number): Story {
  if (run.decision.outcome === 'DENY') {
    return denied(`Denied at its start: ${why(run.decision, now)}. ${reopens(run.decision, now)}`)
  }
  const step = run.latest_denial
  if (step) {
    const stopped = run.status !== 'RUNNING' && step.decision.reason !== 'RUN_ALREADY_ENDED'
    const begin = `${stopped ? 'Stopped at step' : 'Step'} ${step.sequence}${stopped ? '' : ' was denied'}`
    return denied(`${begin}: ${why(step.decision, now)}. ${reopens(step.decision, now)}`)
  }
  if (run.ended_reason === 'IDLE_TIMEOUT') {
    return {
      tone: 'waiting',
      text: 'Ended by the server: it made no call for too long. Its agent may have crashed.',
    }
  }
  if (run.ended_reason === 'DASHBOARD') return { tone: 'waiting', text: 'Ended by hand in the dashboard.' }
  return null
}

function denied(text: string): Story {
  return { tone: 'denied', text: text.trim() }
}
