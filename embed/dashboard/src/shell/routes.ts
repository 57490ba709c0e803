// Every page: its path, its title, and where its code is. A page is loaded when it is first opened.
import type { Component } from 'svelte'
import { userOf } from './users'

export type PageProps = { id?: string }
// A page takes of the props what it needs, which TypeScript cannot say of a component.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Page = Component<any>
type Load = () => Promise<{ default: Page }>

export type Route = {
  path: string
  title: string
  load: Load
  /** `outside`: without the sidebar, for people who are not signed in. `both`: either way. */
  access?: 'outside' | 'both'
}

export const routes: Route[] = [
  {
    path: '/sign-in',
    title: 'Sign in',
    access: 'outside',
    load: () => import('../pages/sign-in/SignIn.svelte'),
  },
  {
    path: '/register',
    title: 'Register',
    access: 'outside',
    load: () => import('../pages/register/Register.svelte'),
  },
  { path: '/welcome', title: 'First run', load: () => import('../pages/welcome/Welcome.svelte') },
  { path: '/overview', title: 'Overview', load: () => import('../pages/overview/Overview.svelte') },
  { path: '/runs', title: 'Runs', load: () => import('../pages/runs/Runs.svelte') },
  { path: '/runs/{id}', title: 'Run', load: () => import('../pages/run/Run.svelte') },
  { path: '/reviews', title: 'Reviews', load: () => import('../pages/reviews/Reviews.svelte') },
  { path: '/usage', title: 'Usage', load: () => import('../pages/usage/Usage.svelte') },
  { path: '/users', title: 'Users', load: () => import('../pages/users/Users.svelte') },
  { path: '/users/{user}', title: 'User', load: () => import('../pages/user/User.svelte') },
  { path: '/prices', title: 'Prices', load: () => import('../pages/prices/Prices.svelte') },
  { path: '/limits', title: 'Limits and policies', load: () => import('../pages/limits/Limits.svelte') },
  { path: '/policies/{id}', title: 'Policy', load: () => import('../pages/policy/Policy.svelte') },
  { path: '/api-keys', title: 'API keys', load: () => import('../pages/api-keys/ApiKeys.svelte') },
  {
    path: '/notifications',
    title: 'Notifications',
    load: () => import('../pages/notifications/Notifications.svelte'),
  },
  { path: '/audit', title: 'Audit log', load: () => import('../pages/audit/Audit.svelte') },
  { path: '/plan', title: 'Plan', load: () => import('../pages/plan/Plan.svelte') },
  { path: '/account', title: 'Account', load: () => import('../pages/account/Account.svelte') },
  { path: '/docs', title: 'API reference', access: 'both', load: () => import('../pages/docs/Docs.svelte') },
]

export type Match = { route: Route; props: PageProps }

/** The route of a path, with or without a slash at its end. */
export function match(path: string): Match | null {
  const clean = path.replace(/\/+$/, '') || '/'
  for (const route of routes) {
    if (route.path === clean) return { route, props: {} }
    const ofUser = route.path.split('{user}')
    if (ofUser.length > 1 && clean.startsWith(ofUser[0]!)) return { route, props: { id: userOf(path) } }
    const [head, tail] = route.path.split('{id}')
    if (tail === undefined || !clean.startsWith(head!)) continue
    const id = clean.slice(head!.length)
    if (/^[\w.-]+$/.test(id)) return { route, props: { id } }
  }
  return null
}
