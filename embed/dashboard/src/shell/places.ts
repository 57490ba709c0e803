export type Place = { path: string; title: string }

/** The main pages: what one looks at, and what one steers by. */
export const mainPlaces: Place[] = [
  { path: '/overview', title: 'Overview' },
  { path: '/runs', title: 'Runs' },
  { path: '/reviews', title: 'Reviews' },
  { path: '/usage', title: 'Usage' },
  { path: '/users', title: 'Users' },
  { path: '/prices', title: 'Prices' },
  { path: '/limits', title: 'Limits and policies' },
]

/** Those that the bar of small screens has room for; the rest is under More. */
export const topPlaces = mainPlaces.filter(({ path }) => path !== '/prices' && path !== '/users')

/** Those that phones show at the bottom; the fifth place there is More. */
export const phonePlaces = mainPlaces
  .filter(({ path }) => path !== '/prices' && path !== '/users')
  .slice(0, 4)

export const morePlaces: Place[] = [
  { path: '/welcome', title: 'First run' },
  { path: '/api-keys', title: 'API keys' },
  { path: '/notifications', title: 'Notifications' },
  { path: '/audit', title: 'Audit log' },
  { path: '/plan', title: 'Plan' },
  { path: '/account', title: 'Account' },
  { path: '/docs', title: 'API reference' },
]
