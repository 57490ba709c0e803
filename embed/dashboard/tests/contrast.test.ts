import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

const css = readFileSync(new URL('../src/look/tokens.css', import.meta.url), 'utf8')
const pairs = [...css.matchAll(/--([\w-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);/g)]
const themes = { light: colours(2), dark: colours(3) }

/** The colours of a theme, the mixed ones among them. */
function colours(at: 2 | 3): Map<string, string> {
  const theme = new Map(pairs.map((m) => [m[1]!, m[at]!]))
  const mixed = css.matchAll(
    /--([\w-]+): color-mix\(in srgb, (?:var\(--([\w-]+)\)|(#\w{6})) (\d+)%, var\(--canvas\)\);/g,
  )
  for (const [, name, of, hex, share] of mixed) {
    theme.set(name!, mix(hex ?? theme.get(of!)!, theme.get('canvas')!, Number(share) / 100))
  }
  return theme
}

function channels(hex: string): number[] {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16))
}

function mix(one: string, other: string, share: number): string {
  const back = channels(other)
  const sums = channels(one).map((value, i) => Math.round(value * share + back[i]! * (1 - share)))
  return '#' + sums.map((value) => value.toString(16).padStart(2, '0')).join('')
}

// Relative luminance and contrast as WCAG 2.2 defines them.
function luminance(hex: string): number {
  const [r, g, b] = channels(hex).map((value) => {
    const c = value / 255
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
}

function contrast(a: string, b: string): number {
  const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m)
  return (x! + 0.05) / (y! + 0.05)
}

const meanings = ['allowed', 'denied', 'running', 'waiting']
const inks = ['text', 'second', 'accent', ...meanings]
const tints = meanings.map((name) => `tint-${name}`)

describe.each(Object.entries(themes))('%s', (_, theme) => {
  const on = (grounds: string[]) => inks.flatMap((ink) => grounds.map((ground) => [ink, ground] as const))

  test.each(on(['canvas', 'surface', 'layer', 'chosen', ...tints]))(
    '%s on %s is at 4.5:1 or better',
    (ink, ground) => {
      expect(contrast(theme.get(ink)!, theme.get(ground)!)).toBeGreaterThanOrEqual(4.5)
    },
  )

  // Rows under the pointer and the sidebar's current entry: text over 4 % and 9 % of itself.
  test.each([
    ['canvas', 0.04],
    ['surface', 0.09],
  ])('words on a %s of which %d is text are at 4.5:1 or better', (ground, share) => {
    const back = mix(theme.get('text')!, theme.get(ground)!, share)
    for (const ink of ['text', 'second'])
      expect(contrast(theme.get(ink)!, back), ink).toBeGreaterThanOrEqual(4.5)
  })

  test.each(['accent', 'allowed', 'denied', 'second', 'waiting'])(
    'the words on a filled %s are at 4.5:1 or better',
    (ground) => {
      expect(contrast(theme.get('on-fill')!, theme.get(ground)!)).toBeGreaterThanOrEqual(4.5)
    },
  )

  test.each(['control', 'hue-1', 'hue-2', 'hue-3', 'hue-4', 'hue-5', 'hue-0'])(
    '%s stands out from the ground at 3:1 or better',
    (shape) => {
      expect(contrast(theme.get(shape)!, theme.get('canvas')!)).toBeGreaterThanOrEqual(3)
    },
  )
})

test('the measure itself knows black on white', () => {
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21, 5)
})
