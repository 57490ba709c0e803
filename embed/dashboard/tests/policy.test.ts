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

test('there are sources to look at', () => expect(sources.length).toBeGreaterThan(40))
