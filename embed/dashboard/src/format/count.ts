/** A whole number with its thousands apart: `12,480`. */
export function count(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ',')
}

const steps: [number, string][] = [
  [1e12, 'T'],
  [1e9, 'B'],
  [1e6, 'M'],
  [1e3, 'k'],
]

/** Tokens: all digits below 100,000, then `1.2 M`. */
export function tokens(value: number): string {
  if (value < 100_000) return count(value)
  for (const [i, [size, unit]] of steps.entries()) {
    if (value < size) continue
    const rounded = oneDecimal(value / size)
    // 999,999 rounds to 1,000 k, which is 1 M.
    const larger = steps[i - 1]
    return rounded >= 1000 && larger ? `1 ${larger[1]}` : `${rounded} ${unit}`
  }
  return count(value)
}

/** The one form of a column of tokens: its unit, with decimals by its largest; null where all digits are shown. */
export type TokenForm = { size: number; unit: string; decimals: 0 | 1 | 2 } | null

export function tokenFormOf(column: Iterable<number>): TokenForm {
  const largest = Math.max(0, ...column)
  if (largest < 100_000) return null
  const [size, unit] = steps.find(([size]) => largest >= size)!
  return { size, unit, decimals: largest >= 100 * size ? 0 : largest >= 10 * size ? 1 : 2 }
}

/** Tokens in the one form of their column: `5.21 M`, `0.38 M`; what is less than the last digit is `<0.01 M`. */
export function tokensInColumn(value: number, form: TokenForm): string {
  if (form === null) return count(value)
  if (value === 0) return '0'
  const { size, unit, decimals } = form
  const least = 10 ** -decimals
  if (value / size < least) return `<${least} ${unit}`
  const [whole, fraction] = (value / size).toFixed(decimals).split('.')
  return `${count(Number(whole))}${fraction ? '.' + fraction : ''} ${unit}`
}

function oneDecimal(value: number): number {
  return value >= 100 ? Math.round(value) : Math.round(value * 10) / 10
}

/** `1 run`, `2 runs`, `12,480 runs`. */
export function plural(value: number, one: string, many = one + 's'): string {
  return `${count(value)} ${value === 1 ? one : many}`
}

/** Kilobytes for people: `48 KB`. */
export function bytes(value: number): string {
  if (value < 1024) return `${value} bytes`
  if (value < 1024 * 1024) return `${Math.round(value / 1024)} KB`
  return `${Math.round(value / 1024 / 102.4) / 10} MB`
}
