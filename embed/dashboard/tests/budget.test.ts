// What a browser loads before it can show the first page must stay small.
import { resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { build, type Rolldown } from 'vite'
import { beforeAll, expect, test } from 'vitest'

const budget = 110 * 1024 // bytes of JavaScript and CSS, compressed

let files: Map<string, Rolldown.OutputChunk | Rolldown.OutputAsset>

beforeAll(async () => {
  const root = resolve(import.meta.dirname, '..')
  const built = await build({ root, logLevel: 'error', build: { write: false } })
  const { output } = (Array.isArray(built) ? built[0] : built) as Rolldown.RolldownOutput
  files = new Map(output.map((file) => [file.fileName, file]))
}, 60_000)

/** Everything that loads with a chunk: what it imports at once. */
function loaded(name: string, seen = new Set<string>()): Set<string> {
  const file = files.get(name)
  if (!file || seen.has(name)) return seen
  seen.add(name)
  if (file.type !== 'chunk') return seen
  for (const other of file.imports) loaded(other, seen)
  return seen
}

function chunkOf(module: string): string {
  for (const file of files.values()) {
    if (file.type === 'chunk' && file.facadeModuleId?.endsWith(module)) return file.fileName
  }
  throw new Error(`nothing is built from ${module}`)
}

function size(name: string): number {
  const file = files.get(name)!
  return gzipSync(file.type === 'chunk' ? file.code : file.source).length
}

test.each(['pages/sign-in/SignIn.svelte', 'pages/overview/Overview.svelte'])(
  '%s is within the budget',
  (page) => {
    const names = loaded(chunkOf(page), loaded(chunkOf('index.html')))
    // The page names these itself: all styles, and what runs before it is painted.
    const named = [...files.keys()].filter((name) => /\.css$|boot-[\w-]+\.js$/.test(name))
    expect(named.length).toBe(2)
    for (const name of named) names.add(name)
    const total = [...names].reduce((sum, name) => sum + size(name), 0)
    expect(names.size).toBeGreaterThan(2)
    expect(total, [...names].map((name) => `${name} ${size(name)}`).join('\n')).toBeLessThanOrEqual(budget)
    expect(total).toBeGreaterThan(budget / 3) // it did measure something
  },
)
