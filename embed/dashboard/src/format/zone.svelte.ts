// The zone in which times are shown: the reader's own, the workspace's, or UTC. This browser remembers which.
import { inThisServer, keep, recall } from '../shell/kept'

export type Zone = 'mine' | 'workspace' | 'utc'

const KEY = inThisServer('pikarc.zone')
const QUARTER = 15 * 60_000

function recalled(): Zone {
  const kept = recall(KEY)
  return kept === 'workspace' || kept === 'utc' ? kept : 'mine'
}

class Zones {
  choice: Zone = $state(recalled())
  /** The workspace's zone, by its name: "Europe/Berlin"; null where it has none. */
  workspace: string | null = $state(null)

  choose(choice: Zone) {
    this.choice = choice
    keep(KEY, choice === 'mine' ? null : choice)
  }

  /** How many minutes the zone that is shown is ahead of UTC at an instant. */
  ahead(ms: number): number {
    if (this.choice === 'utc') return 0
    if (this.choice === 'mine') return -new Date(ms).getTimezoneOffset()
    return this.workspace === null ? 0 : aheadIn(this.workspace, ms)
  }
}

// The browser's formatters take half a millisecond a call, and a zone changes on a quarter of an hour at most.
const known = new Map<string, number>()
const formats = new Map<string, Intl.DateTimeFormat>()

/** How many minutes a zone is ahead of UTC; 0 for one that this browser does not know. */
export function aheadIn(zone: string, ms: number): number {
  const quarter = Math.floor(ms / QUARTER)
  const key = `${zone} ${quarter}`
  const found = known.get(key)
  if (found !== undefined) return found
  if (known.size > 5000) known.clear()
  let ahead = 0
  try {
    ahead = measure(zone, quarter * QUARTER)
  } catch {
    // A name that is newer than the browser: its times are told in UTC, and say so.
  }
  known.set(key, ahead)
  return ahead
}

function measure(zone: string, ms: number): number {
  let format = formats.get(zone)
  if (!format) {
    format = new Intl.DateTimeFormat('en-GB', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
    })
    formats.set(zone, format)
  }
  const parts = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, Number(value)]))
  const there = Date.UTC(parts.year!, parts.month! - 1, parts.day!, parts.hour!, parts.minute!)
  return Math.round((there - ms) / 60_000)
}

/** The first instant of a date in a zone: midnight, or when the clocks skip it, the moment that comes after. */
export function startOfDate(date: string, zone: string): number {
  const midnight = Date.parse(date)
  const first = midnight - aheadIn(zone, midnight) * 60_000
  return midnight - aheadIn(zone, first) * 60_000
}

/** The date that an instant has in a zone. */
export const dateIn = (ms: number, zone: string) =>
  new Date(ms + aheadIn(zone, ms) * 60_000).toISOString().slice(0, 10)

export const zones = new Zones()
