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
