import type { Schema } from '../../api/client'

const types: Record<Schema<'StepType'>, string> = {
  MODEL_CALL: 'Model call',
  TOOL_CALL: 'Tool call',
  INPUT: 'Input',
  OUTPUT: 'Output',
  REASONING: 'Reasoning',
  SYSTEM: 'System',
}

export function typeWord(type: Schema<'StepType'>): string {
  return types[type] ?? type
}

/** What could not be kept as the agent sent it, as a sentence. */
export function repairedWords(fields: string[]): string {
  const names = fields.map((field) => (field === 'other' ? 'fields that this server does not know' : field))
  return `could not be kept as sent: ${names.join(', ')}`
}
