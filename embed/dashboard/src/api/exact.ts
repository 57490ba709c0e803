// JSON numbers of this API are exact decimals, and a JavaScript number holds about 15 digits. What does not fit
// is kept as the text that was sent, so that no cent is lost and JSON is shown as the agent wrote it.

/** A number with more digits than a JavaScript number holds. */
export class Exact {
  constructor(readonly text: string) {}

  toString(): string {
    return this.text
  }

  valueOf(): number {
    return Number(this.text)
  }

  toJSON(): unknown {
    return rawJSON ? rawJSON(this.text) : this.text
  }
}

/** An amount of US dollars as the API wrote it. */
export type Money = number | Exact

type Source = { source?: string } | undefined
const rawJSON = (JSON as unknown as { rawJSON?: (text: string) => unknown }).rawJSON

// Browsers from before 2025 pass no source: there, the 16th digit of an amount over a million dollars is lost.
const revive = (_key: string, value: unknown, context?: Source): unknown =>
  typeof value === 'number' && context?.source && losesDigits(value, context.source)
    ? new Exact(context.source)
    : value

function losesDigits(value: number, source: string): boolean {
  if (source.length <= 15) return false
  return decimalText(value) !== decimalText(new Exact(source))
}

// A number of so many characters: only then can it have more digits than fit. Ids in quotes are none.
const mayHoldLong = /(?:^|[\s:,[])[\d.eE+-]{16}/

/** Parses an answer of the API without losing a digit. */
export function parseExact(text: string): unknown {
  // Looking at each value takes ten times as long as reading them.
  if (!mayHoldLong.test(text)) return JSON.parse(text)
  return JSON.parse(text, revive as (key: string, value: unknown) => unknown)
}

/** The plain decimal digits of a number: never scientific, no trailing zeros. */
export function decimalText(value: Money): string {
  const match = /^(-?)(\d+)(?:\.(\d*))?(?:e([+-]?\d+))?$/i.exec(String(value))
  if (!match) return String(value)
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = match
  const shift = Number(exponent)
  const digits = (whole + fraction).padEnd(whole.length + shift, '0')
  const point = whole.length + shift
  const left = point > 0 ? digits.slice(0, point) : '0'
  const right = point > 0 ? digits.slice(point) : '0'.repeat(-point) + digits
  const cleanLeft = left.replace(/^0+(?=\d)/, '')
  const cleanRight = right.replace(/0+$/, '')
  return sign + cleanLeft + (cleanRight ? '.' + cleanRight : '')
}

const NANO = 9

/** Billionths of a dollar, in which amounts are added, compared and divided without loss. */
export function nano(value: Money): bigint {
  const [whole = '0', fraction = ''] = decimalText(value).split('.')
  const negative = whole.startsWith('-')
  const size = BigInt(whole.replace('-', '') + fraction.slice(0, NANO).padEnd(NANO, '0'))
  return negative ? -size : size
}

/** The amount of so many billionths of a dollar. */
export function fromNano(value: bigint): Money {
  const negative = value < 0n
  const digits = String(negative ? -value : value).padStart(NANO + 1, '0')
  const text = decimalText(new Exact(`${digits.slice(0, -NANO)}.${digits.slice(-NANO)}`))
  return new Exact(negative ? '-' + text : text)
}
