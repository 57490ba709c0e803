// What happened to a run, as a sentence: what, why, what it cost.
import { nano } from '../../api/exact'
import { count, plural } from '../../format/count'
import { usd } from '../../format/money'
import { reopens, why } from '../../format/reasons'
import { age, duration } from '../../format/time'
import { silentFor } from '../../runs/silence'
import type { Fold, Item } from './outline'
import type { RunDetail } from './timeline.svelte'

export type Tone = 'denied' | 'waiting' | 'running' | 'allowed' | 'failed'
/** Words of a sentence: those in bold are what it is about. */
export type Words = { text: string; bold?: boolean; step?: string }[]
export type Story = { tone: Tone; word: string; says: Words; ended: string | null }

/** After how long without a call one may think that the agent is gone. */
const SILENT = 300

const bold = (text: string) => ({ text, bold: true })

/** A sentence with its amounts in bold. */
function plain(text: string): Words {
  return text
    .split(/(\$[\d,.]*\d)/)
    .filter(Boolean)
    .map((part) => (part.startsWith('$') ? bold(part) : { text: part }))
}

/** The latest step that failed stands for why a run did. */
export function story(run: RunDetail, items: Item[], now: number): Story {
  const took = duration(run.duration_ms ?? Math.max(0, now - Date.parse(run.started_at)))
  const cost: Words = [
    { text: ' ' },
    bold(plural(run.step_count, 'step')),
    ...(run.unpriced_tokens > 0 && nano(run.total_usd) === 0n
      ? [{ text: ', of which nothing has a price.' }]
      : [{ text: ', ' }, bold(usd(run.total_usd)), { text: '.' }]),
  ]
  const ended = run.ended_at
  if (run.decision.outcome === 'DENY') {
    const rest = `: ${whose(run, run.decision, now)} ${reopens(run.decision, now)}`
    return {
      tone: 'denied',
      word: 'Denied',
      says: [bold('Denied at its start'), ...plain(rest.trimEnd())],
      ended,
    }
  }
  const denial = run.latest_denial
  const stopped = denial && run.status !== 'RUNNING' && denial.decision.reason !== 'RUN_ALREADY_ENDED'
  if (denial && (stopped || run.status === 'RUNNING')) {
    const after = stopped ? ` after ${took}` : ''
    const rest = `${after}: ${whose(run, denial.decision, now)} ${reopens(denial.decision, now)}`
    const lead = stopped
      ? `Denied at step ${count(denial.sequence)}`
      : `Running, but step ${count(denial.sequence)} was denied`
    return {
      tone: 'denied',
      word: 'Denied',
      says: [{ ...bold(lead), step: denial.step_id }, ...plain(rest.trimEnd())],
      ended,
    }
  }
  if (run.status === 'RUNNING') return running(run, took, cost, now)
  if (run.ended_reason === 'IDLE_TIMEOUT') {
    const says = [
      bold('Ended by the server'),
      { text: `: it made no call for too long. Its agent may have crashed.` },
      ...cost,
    ]
    return { tone: 'waiting', word: 'No call', says, ended }
  }
  const byHand = run.ended_reason === 'DASHBOARD' ? ' by hand in the dashboard' : ''
  if (run.status === 'FAILED') {
    const last = items.findLast(({ status }) => status === 'FAILED')
    const says: Words = byHand
      ? [bold('Ended'), { text: byHand + ` after ${took}.` }]
      : [bold('Failed'), { text: ` after ${took}` }, ...at(last), { text: '.' }]
    return { tone: byHand ? 'waiting' : 'failed', word: 'Failed', says: [...says, ...cost], ended }
  }
  if (run.status === 'BLOCKED') {
    return {
      tone: 'denied',
      word: 'Denied',
      says: [bold('Ended as denied'), { text: byHand + ` after ${took}.` }, ...cost],
      ended,
    }
  }
  const failed = items.filter(({ status }) => status === 'FAILED').length
  const trouble: Words = failed ? [{ text: ' ' }, bold(plural(failed, 'step')), { text: ' failed.' }] : []
  const says = [bold('Completed'), { text: `${byHand} in ` }, bold(took), { text: '.' }, ...cost, ...trouble]
  return { tone: 'allowed', word: 'Completed', says, ended }
}

function running(run: RunDetail, took: string, cost: Words, now: number): Story {
  if (silentFor(run, now) >= SILENT) {
    const says: Words = [
      bold('Running, but silent'),
      { text: ': its last call was ' },
      bold(age(run.last_call_at, now)),
      { text: '. Its agent may have crashed.' },
      ...cost,
    ]
    return { tone: 'waiting', word: 'Silent', says, ended: null }
  }
  const says = [bold('Running'), { text: ' for ' }, bold(took), { text: '.' }, ...cost]
  return { tone: 'running', word: 'Running', says, ended: null }
}

function at(step: Item | undefined): Words {
  if (!step) return []
  const name = step.tool ?? step.model
  return [
    { text: ', last at ' },
    { ...bold(`step ${count(step.sequence)}${name ? `, ${name}` : ''}`), step: step.id },
  ]
}

/** Why it was denied, with whose budget it was. */
function whose(run: RunDetail, decision: RunDetail['decision'], now: number): string {
  const { reason, limit, used } = decision
  if (limit == null || used == null) return why(decision, now) + '.'
  if (reason === 'USER_DAILY_BUDGET_EXCEEDED')
    return `${run.user_id.slice(0, 60)} had spent ${usd(used)} of its ${usd(limit)} a day.`
  if (reason === 'WORKSPACE_DAILY_BUDGET_EXCEEDED')
    return `the workspace had spent ${usd(used)} of its ${usd(limit)} a day.`
  return why(decision, now) + '.'
}

/** What most of a run was, where that is one thing again and again. */
export function repetition(
  items: Item[],
  folds: Map<number, Fold>,
): { first: number; steps: number; words: string; step: string } | null {
  let most: [number, Fold] | null = null
  for (const entry of folds) {
    if (!most || size(entry[1]) > size(most[1])) most = entry
  }
  if (!most || size(most[1]) < 10 || size(most[1]) * 4 < items.length) return null
  const [first, fold] = most
  const round = items.slice(first, first + fold.period)
  const name = round.find(({ type }) => type === 'TOOL_CALL') ?? round[0]!
  const called = name.tool ?? name.model ?? 'one call'
  return {
    first,
    steps: size(fold),
    step: name.id,
    words: `${count(size(fold))} of the ${plural(items.length, 'step')} were one round, repeated ${plural(fold.times, 'time')}: ${called} with the same input.`,
  }
}

const size = ({ period, times }: Fold) => period * times
