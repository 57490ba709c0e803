// "Are we all right now?" as a sentence: what stops agents comes first.
import type { Schema } from '../../api/client'
import { count, plural } from '../../format/count'
import { share } from '../../format/money'
import { spentToday } from '../../format/spent'
import { resets, until } from '../../format/time'

type Today = Pick<Schema<'Usage'>, 'today' | 'running_runs' | 'monthly_run_count' | 'monthly_run_limit'>
type Limits = Pick<Schema<'Workspace'>, 'kill_switch' | 'daily_budget_usd' | 'max_concurrent_runs'>

export type Answer = {
  /** `stopped`: no agent gets on. `full`: those that run get on, and no other may start. */
  tone: 'stopped' | 'full' | 'calm'
  text: string
}

/** The first that holds, in the order in which the rules are asked. */
export function answer(usage: Today, workspace: Limits, now: number): Answer {
  const budget = workspace.daily_budget_usd
  const running = usage.running_runs
  const spent = spentToday(usage.today.total_usd, usage.today.unpriced_tokens, budget)
  const open = running === 0 ? 'None is open' : `${count(running)} ${running === 1 ? 'is' : 'are'} still open`
  const at = resets(now)
  if (workspace.kill_switch) {
    return { tone: 'stopped', text: `All agents are stopped: the kill switch is on. ${open}, ${spent}` }
  }
  if (budget !== null && share(usage.today.total_usd, budget) >= 1) {
    const words = `Every agent is refused: ${spent}. The budget opens at 00:00 UTC, ${until(at.day, now)}. ${open}`
    return { tone: 'stopped', text: words }
  }
  const agents = running === 0 ? 'No agent running' : `${plural(running, 'agent')} running`
  const most = usage.monthly_run_limit
  if (most !== null && usage.monthly_run_count >= most) {
    const words = `No run may start: all ${count(most)} of the month are used until 00:00 UTC on the first, ${until(at.month, now)}.`
    return { tone: 'full', text: `${words} ${agents}, ${spent}` }
  }
  if (running >= workspace.max_concurrent_runs) {
    return { tone: 'full', text: `${agents}, as many as may: no other may start. ${upper(spent)}` }
  }
  return { tone: 'calm', text: `${agents}, ${spent}` }
}

const upper = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)
