// How things stand, in one sentence: the worst that holds comes first.
import type { Schema } from '../api/client'
import { changeOf } from '../format/change'
import { count, plural, tokens } from '../format/count'
import { share, usd, usdBeside, usdInColumn } from '../format/money'
import { rate, shortRate, times } from '../format/rate'
import { duration, resets, until } from '../format/time'

export type Kind = 'stopped' | 'refused' | 'burning' | 'unpriced' | 'waiting' | 'calm'
export type Tone = 'denied' | 'waiting' | 'running' | 'allowed'

/** A part of the sentence: a figure stands out, the words between are grey. `ink` gives it the colour of its meaning. */
export type Part = string | { figure: string; ink?: Tone; user?: boolean }

export type Standing = {
  kind: Kind
  tone: Tone
  parts: Part[]
  /** What else one should know, in small letters. */
  notes: string[]
}

type Usage = Pick<
  Schema<'Usage'>,
  'today' | 'running_runs' | 'by_reason' | 'monthly_run_count' | 'monthly_run_limit'
>
type Limits = Pick<Schema<'Workspace'>, 'kill_switch' | 'daily_budget_usd' | 'max_concurrent_runs'>
export type Now = Pick<
  Schema<'UsageNow'>,
  | 'usd_per_minute'
  | 'usual_usd_per_minute'
  | 'burning'
  | 'budget_gone_at'
  | 'yesterday_usd'
  | 'last_week_usd'
  | 'most_expensive'
  | 'stopped'
  | 'reviews_waiting'
>

/** `clock` writes an instant as the reader's clock does, with its zone. */
export function standing(
  usage: Usage,
  workspace: Limits,
  now: Now,
  at: number,
  clock: (instant: string) => string,
): Standing {
  return (
    stopped(usage, workspace, now, clock) ??
    refused(usage, workspace, at, clock) ??
    burns(usage, workspace, now, at) ??
    unpriced(usage) ??
    waits(now) ??
    calm(usage, workspace, now, at, clock)
  )
}

const openRuns = (running: number) =>
  running === 0
    ? ['None is open.']
    : [fig(count(running)), running === 1 ? ' is still open.' : ' are still open.']

const fig = (figure: string, ink?: Tone): Part => (ink ? { figure, ink } : { figure })

function stopped(
  usage: Usage,
  workspace: Limits,
  now: Now,
  clock: (instant: string) => string,
): Standing | null {
  if (!workspace.kill_switch) return null
  const { since, by, reason } = now.stopped ?? { since: null, by: null, reason: null }
  const parts: Part[] = [fig('All agents are stopped')]
  if (since) parts.push(' since ', fig(clock(since)))
  if (by) parts.push(` by `, { figure: by, user: true })
  parts.push(reason ? `: “${reason}”. ` : '. ', ...openRuns(usage.running_runs))
  const refusedToday = usage.by_reason.find((each) => each.reason === 'KILL_SWITCH_ACTIVE')?.today ?? 0
  const notes = ['Every run and every step is refused.']
  if (refusedToday > 0) notes.push(`${plural(refusedToday, 'call was', 'calls were')} refused by it today.`)
  return { kind: 'stopped', tone: 'denied', parts, notes }
}

function refused(
  usage: Usage,
  workspace: Limits,
  at: number,
  clock: (instant: string) => string,
): Standing | null {
  const budget = workspace.daily_budget_usd
  if (budget === null || share(usage.today.total_usd, budget) < 1) return null
  const { day } = resets(at)
  return {
    kind: 'refused',
    tone: 'denied',
    parts: [
      fig('Every agent is refused', 'denied'),
      ': today’s ',
      fig(usd(budget)),
      ' are spent. Opens at ',
      fig(clock(day)),
      `, ${until(day, at)}.`,
    ],
    notes: [
      `${usd(usage.today.total_usd)} were spent. ${usage.running_runs === 0 ? 'None is' : plural(usage.running_runs, 'run is', 'runs are')} open.`,
    ],
  }
}

function burns(usage: Usage, workspace: Limits, now: Now, at: number): Standing | null {
  if (!now.burning) return null
  const parts: Part[] = ['Burning ', fig(`${rate(now.usd_per_minute)} a minute`, 'denied')]
  const factor = times(now)
  if (factor) parts.push(`, ${factor} the usual`)
  const who = now.most_expensive
  if (who?.run_id) {
    parts.push(
      ': ',
      fig(who.title ? `“${who.title}”` : 'a run'),
      ' (',
      { figure: who.user_id, user: true },
      ')',
    )
  } else if (who) {
    parts.push(`: ${plural(who.run_count, 'run')} of `, { figure: who.user_id, user: true })
  } else {
    parts.push(`: ${plural(usage.running_runs, 'run')}`)
  }
  parts.push('. ')
  const left = now.budget_gone_at ? Date.parse(now.budget_gone_at) - at : null
  if (left !== null) parts.push('The budget is gone in ', fig(span(left)), '.')
  else if (workspace.daily_budget_usd === null) parts.push('No budget ends it.')
  return { kind: 'burning', tone: 'denied', parts, notes: [] }
}

/** Seconds within a minute, then whole minutes. */
function span(ms: number): string {
  return duration(Math.max(0, ms < 60_000 ? ms - (ms % 1000) : ms - (ms % (ms < 600_000 ? 1000 : 60_000))))
}

function unpriced(usage: Usage): Standing | null {
  const { unpriced_tokens: used, unpriced_step_count: steps } = usage.today
  if (used === 0) return null
  return {
    kind: 'unpriced',
    tone: 'waiting',
    parts: [fig(`${tokens(used)} tokens`, 'waiting'), ' today have no price.'],
    notes: [`In ${plural(steps, 'step')}: no budget counts them.`],
  }
}

function waits(now: Now): Standing | null {
  if (now.reviews_waiting === 0) return null
  const one = now.reviews_waiting === 1
  return {
    kind: 'waiting',
    tone: 'waiting',
    parts: [
      fig(plural(now.reviews_waiting, 'step'), 'waiting'),
      one ? ' waits for a person.' : ' wait for a person.',
    ],
    notes: [],
  }
}

function calm(
  usage: Usage,
  workspace: Limits,
  now: Now,
  at: number,
  clock: (instant: string) => string,
): Standing {
  const running = usage.running_runs
  const parts: Part[] = [
    fig(running === 0 ? 'No' : count(running)),
    running === 1 || running === 0 ? ' agent running, ' : ' agents running, ',
    fig(rate(now.usd_per_minute)),
    ' a minute, ',
    fig(usdBeside(usage.today.total_usd, workspace.daily_budget_usd)),
  ]
  const budget = workspace.daily_budget_usd
  parts.push(budget === null ? ' today.' : ` of ${usd(budget)} today.`)
  const full = whyNoneMayStart(usage, workspace, at, clock)
  const near = budget !== null && share(usage.today.total_usd, budget) >= 0.8
  return {
    kind: 'calm',
    tone: full || near ? 'waiting' : 'running',
    parts,
    notes: [...(full ? [full] : []), compared(usage, now)].filter(Boolean),
  }
}

function whyNoneMayStart(
  usage: Usage,
  workspace: Limits,
  at: number,
  clock: (instant: string) => string,
): string {
  const most = usage.monthly_run_limit
  if (most !== null && usage.monthly_run_count >= most) {
    const { month } = resets(at)
    return `No run may start: all ${count(most)} of the month are used until ${clock(month)} on the first, ${until(month, at)}.`
  }
  if (usage.running_runs >= workspace.max_concurrent_runs) {
    return 'As many agents run as may: no other may start.'
  }
  return ''
}

/** Today beside yesterday and last week, at this time of the day. */
export function compared(usage: Pick<Usage, 'today'>, now: Now): string {
  const { yesterday_usd: yesterday, last_week_usd: week } = now
  const change = yesterday === null ? '' : changeOf(usage.today.total_usd, yesterday)
  const days = [
    yesterday === null
      ? ''
      : `${usdInColumn(yesterday, 2)} yesterday${change === '' || change === 'new' ? '' : ` (today ${change})`}`,
    week === null ? '' : `${usdInColumn(week, 2)} a week ago`,
  ].filter(Boolean)
  return days.length ? `By this time: ${days.join(', ')}.` : ''
}

/** What the tab says before its page: `● $7.6/min`, `■ stopped`, `(2) to review`. */
export function tabOf(kind: Kind, now: Now): string {
  switch (kind) {
    case 'stopped':
      return '■ stopped'
    case 'refused':
      return '■ refused'
    case 'burning':
      return `● ${shortRate(now.usd_per_minute)}/min`
    case 'waiting':
      return `(${now.reviews_waiting}) to review`
    default:
      return now.reviews_waiting > 0 ? `(${now.reviews_waiting}) to review` : ''
  }
}
