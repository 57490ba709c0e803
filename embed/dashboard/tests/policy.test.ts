// The server sends a Content-Security-Policy that refuses inline styles and scripts, and texts come from strangers.
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

const src = new URL('../src/', import.meta.url)
const sources = readdirSync(src, { recursive: true, encoding: 'utf8' })
  .filter((name) => /\.(svelte|ts|css)$/.test(name) && !/schema\.ts$|\.test\.ts$/.test(name))
  .map((name) => [name, readFileSync(new URL(name, src), 'utf8')] as const)

test.each([
  ['a style attribute', /\sstyle="/],
  ['markup from a string', /\{@html|innerHTML|outerHTML|insertAdjacentHTML/],
  ['code from a string', /\beval\(|new Function\(/],
  // A server may lie below a path of its origin (src/shell/base.ts).
  ['a link without the base path', /href="\/|href=\{(path|router\.path|'\/)|href=\{`\//],
  ['a call without the base path', /fetch\(['"`]\//],
  ['another server', /https?:\/\/(?!localhost|www\.w3\.org)/],
])('no source has %s', (_, pattern) => {
  const found = sources.filter(([, text]) => pattern.test(text)).map(([name]) => name)
  expect(found).toEqual([])
})

// tests/browser looks at each size in one theme.
test('a theme is nothing but colours', () => {
  const tokens = sources.find(([name]) => name === 'look/tokens.css')![1]
  const ofThemes = [...tokens.matchAll(/\[data-theme[^{]*\{([^}]*)\}/g)].map(([, rules]) => rules!.trim())
  expect(ofThemes).toEqual(['color-scheme: light;', 'color-scheme: dark;'])
  const others = sources.filter(([name]) => name !== 'look/tokens.css' && name !== 'shell/theme.svelte.ts')
  const found = others.filter(([, text]) => /prefers-color-scheme|data-theme/.test(text))
  expect(found.map(([name]) => name)).toEqual([])
  for (const [name, text] of sources) {
    for (const [rule] of text.matchAll(/^ *[\w-]+:[^;{}]*light-dark\([^;]*;/gm))
      expect(rule.trim(), name).toMatch(/^(--[\w-]+|background|color|border-color):/)
  }
})

test('there are sources to look at', () => expect(sources.length).toBeGreaterThan(40))
