export type Place = { path: string; title: string }

/** The five pages that phones show at the bottom. */
export const mainPlaces: Place[] = [
  { path: '/overview', title: 'Overview' },
  { path: '/runs', title: 'Runs' },
  { path: '/users', title: 'Users' },
  { path: '/prices', title: 'Prices' },
  { path: '/limits', title: 'Limits' },
]

export const morePlaces: Place[] = [
  { path: '/welcome', title: 'First run' },
  { path: '/api-keys', title: 'API keys' },
  { path: '/notifications', title: 'Notifications' },
  { path: '/audit', title: 'Audit log' },
  { path: '/plan', title: 'Plan' },
  { path: '/account', title: 'Account' },
  { path: '/docs', title: 'API reference' },
]
