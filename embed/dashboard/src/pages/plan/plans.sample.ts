// The four plans as a server that sells two of them tells them: for tests.
import type { Billing } from './billing'

const none = { kill_switch: false, user_daily_budget: false, configurable_concurrency: false }
const all = { kill_switch: true, user_daily_budget: true, configurable_concurrency: true }
export const plans: Billing['plans'] = [
  {
    id: 'basic',
    name: 'Basic',
    price_usd: 0,
    monthly_run_limit: 1000,
    max_concurrent_runs: 3,
    retention_days: 1,
    features: none,
    can_buy: false,
  },
  {
    id: 'pro',
    name: 'Pro',
    price_usd: 25,
    monthly_run_limit: 50000,
    max_concurrent_runs: null,
    retention_days: 14,
    features: { ...all, kill_switch: false },
    can_buy: true,
  },
  {
    id: 'scale',
    name: 'Scale',
    price_usd: 79,
    monthly_run_limit: null,
    max_concurrent_runs: null,
    retention_days: 90,
    features: all,
    can_buy: true,
  },
  {
    id: 'enterprise',
    name: 'Enterprise',
    price_usd: null,
    monthly_run_limit: null,
    max_concurrent_runs: null,
    retention_days: 365,
    features: all,
    can_buy: false,
  },
]
