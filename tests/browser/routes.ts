// The pages, as the dashboard's own list of routes has them: a new page is walked without a word here.
import { readFileSync } from 'node:fs'

const source = readFileSync(new URL('../../embed/dashboard/src/shell/routes.ts', import.meta.url), 'utf8')

export type Route = { path: string; access: 'inside' | 'outside' | 'both' }

export const routes: Route[] = source
  .split(/(?=\{\s*path: ')/)
  .slice(1)
  .map((entry) => ({
    path: /path: '([^']+)'/.exec(entry)![1]!,
    access: (/access: '(outside|both)',/.exec(entry)?.[1] ?? 'inside') as Route['access'],
  }))

/** Each page as it is met: by somebody who has signed in, by somebody who has not, or by both. */
export const visits = routes.flatMap(({ path, access }) =>
  [true, false].filter((signedIn) => access === 'both' || signedIn === (access === 'inside')).map((signedIn) => [path, signedIn] as const),
)

/** The policy that Server.reviews makes. */
export const POLICY = 'large-refund'

/** The address of a page with an id in it: a run's, that policy's, or a user's. */
export const addressOf = (path: string, run: string, user: string) =>
  path.replace('{user}', encodeURIComponent(user)).replace('{id}', path.startsWith('/policies/') ? POLICY : run)
