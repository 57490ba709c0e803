import type { Schema } from '../../api/client'

/** What a key of each scope may do. */
export const scopes: Record<Schema<'KeyScope'>, string> = {
  agent: 'asks, reports and reads: what an agent needs',
  read: 'reads only: for reports and monitoring',
  admin: 'also changes the configuration: for scripts, and for no agent',
}
