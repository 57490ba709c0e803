import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'

const css = readFileSync(new URL('../src/look/tokens.css', import.meta.url), 'utf8')
const [light, dark] = [...css.matchAll(/:root \{([^}]*)\}/g)].map((block) => colours(block[1]!))

function colours(block: string): Map<string, string> {
  return new Map([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6});/g)].map((m) => [m[1]!, m[2]!]))
}

// Relative luminance and contrast as WCAG 2.2 defines them.
function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const c = parseInt(hex.slice(at, at + 2), 16) / 255
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  })
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
}

function contrast(a: string, b: string): number {
  const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m)
  return (x! + 0.05) / (y! + 0.05)
}

const inks = ['text', 'second', 'accent', 'allowed', 'denied', 'running', 'waiting']
const grounds = ['canvas', 'surface']

describe.each([
  ['light', light!],
  ['dark', dark!],
])('%s', (_, theme) => {
  const pairs = inks.flatMap((ink) => grounds.map((ground) => [ink, ground] as const))
  // A hovered or current entry of the sidebar stands on the colour of lines.
  pairs.push(['text', 'line'], ['second', 'line'])

  test.each(pairs)('%s on %s is at 4.5:1 or better', (ink, ground) => {
    expect(contrast(theme.get(ink)!, theme.get(ground)!)).toBeGreaterThanOrEqual(4.5)
  })

  test.each(['accent', 'denied'])('the words of a %s button are at 4.5:1 or better', (ground) => {
    expect(contrast(theme.get('canvas')!, theme.get(ground)!)).toBeGreaterThanOrEqual(4.5)
  })
})

test('the measure itself knows black on white', () => {
  expect(contrast('#000000', '#ffffff')).toBeCloseTo(21, 5)
})
