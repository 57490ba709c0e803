// What boot.ts asks for early must be what the pages ask for: an address nobody takes is a request for nothing.
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { routes } from './shell/routes'

const boot = readFileSync(new URL('boot.ts', import.meta.url), 'utf8')

test('the folder of a page’s code follows from its path, which boot.ts relies on', () => {
  const folders = readdirSync(new URL('pages/', import.meta.url))
  const ofOne: Record<string, string> = {
    '/runs/{id}': 'run',
    '/users/{user}': 'user',
    '/policies/{id}': 'policy',
  }
  const expected = routes.map(({ path }) => ofOne[path] ?? path.slice(1))
  expect(folders.sort()).toEqual(expected.sort())
})

test('boot.ts imports nothing: it must stay tiny and classic', () => {
  expect(boot).not.toMatch(/^import (?!type)/m)
})

test('the mark that is painted before there is code is the one that the code draws', () => {
  const read = (name: string) => readFileSync(new URL(name, import.meta.url), 'utf8')
  const drawn = (text: string) => [...text.matchAll(/ (?:d|viewBox|rx?|c?[xy])="[^"]+"/g)].map(String)
  // A fine day's: the other shapes say how things stand, which is not known yet.
  const brand = drawn(read('shell/Brand.svelte').replace(/\{#if[\s\S]*\{:else\}/, ''))
  expect(brand.length).toBeGreaterThan(8)
  expect(drawn(read('../index.html').split('<div id="app">')[1]!)).toEqual([...brand, ...brand])
})
