// Amounts as people type them, to exact decimal text. No number of JavaScript's ever holds one.
import { decimalText, Exact } from '../api/exact'

/** The plain decimal digits of what was typed (`$2.50`, `.5`, `1,000`, `2.5e-6`); null when it is no amount. */
export function decimalOf(typed: string): string | null {
  const text = typed.trim().replace(/^\$\s*/, '')
  const whole = /^\d{1,3}(,\d{3})+(\.\d*)?$/.test(text) ? text.replaceAll(',', '') : text
  const match = /^(\d*)(\.\d*)?(e[+-]?\d{1,2})?$/i.exec(whole)
  if (!match || !/\d/.test(match[1]! + (match[2] ?? ''))) return null
  return decimalText(new Exact((match[1] || '0') + (match[2] ?? '') + (match[3] ?? '')))
}
