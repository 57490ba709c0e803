// The form of a step says its kind, in grey and in print too; colour only repeats it.
import { isProblem, type Item } from './outline'

export type Form = 'model' | 'tool' | 'wait' | 'fold' | 'other' | 'denied' | 'failed'

/** Whether a person decides about it. */
export const isWaiting = ({ status }: Item) => status === 'WAITING'

/** What a step is. */
export function kindOf(item: Item): Form {
  if (item.type === 'MODEL_CALL') return 'model'
  if (item.type === 'TOOL_CALL') return 'tool'
  return 'other'
}

/** How its bar looks: what went wrong, or waits, goes first. */
export function formOf(item: Item): Form {
  if (item.status === 'BLOCKED') return 'denied'
  if (item.status === 'FAILED') return 'failed'
  return isWaiting(item) ? 'wait' : kindOf(item)
}

export { isProblem }
