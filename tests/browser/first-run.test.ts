// Whoever copies the three lines of the page, in any language, sees it turn green: each is done here as it stands.
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { Server } from './server'

const binary = resolve(import.meta.dirname, process.env.PIKARC_BINARY ?? '../../pikarc')
const goClient = resolve(import.meta.dirname, '../../clients/go')

let server: Server
let browser: Browser
let dir: string
let compiled: string // Go's cache of this machine, without which a new home compiles all of its library

beforeAll(async () => {
  compiled = (await promisify(execFile)('go', ['env', 'GOCACHE'])).stdout.trim()
  server = await Server.start()
  browser = await launch()
  dir = await mkdtemp(join(tmpdir(), 'pikarc-first-run-'))
  await mkdir(join(dir, 'bin'))
  await symlink(binary, join(dir, 'bin', 'pikarc'))
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
  await rm(dir, { recursive: true, force: true })
})

type Line = { title: string; text: string }

/** What the page says to do, in order. */
async function linesOf(page: Page): Promise<Line[]> {
  const items = await page.locator('main ol > li').all()
  return Promise.all(
    items.map(async (item) => ({
      title: (await item.getByRole('heading').textContent())!.replace(/^\s*\d+\s*/, '').trim(),
      text: (await item.locator('pre').textContent())!,
    })),
  )
}

/** Does them in a directory of one's own, as somebody with a shell. A title that ends with a file's name is that file. */
async function follow(lines: Line[], home: string) {
  const commands: string[] = ['set -eu']
  for (const { title, text } of lines) {
    const file = /, in (\S+)$/.exec(title)?.[1]
    if (file) await writeFile(join(home, file), text)
    else commands.push(text)
  }
  const own = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(PIKARC_|XDG_|PYTHONPATH)/.test(name)))
  const env = {
    ...own,
    HOME: home,
    USER: 'ann',
    PATH: `${join(dir, 'bin')}:${process.env.PATH}`,
    GOPATH: own.GOPATH ?? join(dir, 'go'),
    GOCACHE: compiled,
  }
  const options = { cwd: home, env, timeout: 240_000 }
  return promisify(execFile)('bash', ['-c', commands.join('\n')], options)
}

test.each([
  ['Python', 'gpt-4o'],
  ['TypeScript', 'gpt-4o'],
  ['Go', 'gpt-4o'],
  ['curl', 'gpt-4o'],
  ['Claude Code', 'PikarcDoctor'],
])('the three lines for %s guard a call', async (language, called) => {
  const name = language.replace(' ', '-').toLowerCase()
  const ada = await server.account(`${name}@example.com`, 'enterprise')
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/welcome')
  await page.getByRole('button', { name: language, exact: true }).click()
  await page.getByText('Waiting for the first call of your agent…').waitFor()
  const lines = await linesOf(page)
  expect(lines.length).toBe(3)
  const home = join(dir, name)
  await mkdir(home)
  // The module is published with this source, not before it.
  const unpublished = 'go get github.com/pikarc/server/clients/go'
  const published = lines.map(({ title, text }) => ({
    title,
    text: text.replace(unpublished, `go mod edit -replace ${unpublished.slice(7)}=${goClient} && go get ${unpublished.slice(7)}@v0.0.0`),
  }))
  await follow(published, home)
  await page.getByText(/Your agent is guarded\.|A run came/).waitFor()
  await page.locator('main [role=status] a[href^="/runs/"]').click()
  await page.getByText(called).first().waitFor()
  expect(troubles).toEqual([])
  await context.close()
}, 300_000)

test('the gateway for MCP is written as clients read it, with the key of this server', async () => {
  const ada = await server.account('mcp@example.com', 'enterprise')
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/welcome?with=mcp')
  await settled(page)
  const [check, settings, http] = await linesOf(page)
  const home = join(dir, 'mcp')
  await mkdir(home)
  expect((await follow([check!], home)).stdout).toContain('is accepted')
  const { command, args, env } = JSON.parse(settings!.text).mcpServers.files
  expect([command, ...args.slice(0, 2)]).toEqual(['pikarc', 'mcp', '--'])
  expect(env).toEqual({ PIKARC_API_KEY: ada.apiKey, PIKARC_BASE_URL: server.url })
  expect(http!.text).toContain('pikarc mcp --upstream ')
  expect(troubles).toEqual([])
  await context.close()
})

test('the line that waits stays in view, wherever the page is scrolled', async () => {
  const ada = await server.account('view@example.com')
  for (const viewport of [
    { width: 1440, height: 700 },
    { width: 390, height: 700 },
  ]) {
    const { page, context } = await visit(browser, server, ada, { viewport })
    await page.goto('/welcome?with=go')
    await settled(page)
    const line = page.getByText('Waiting for the first call of your agent…')
    for (const top of [0, 300, 100_000]) {
      await page.evaluate((y) => scrollTo(0, y), top)
      const box = (await line.boundingBox())!
      expect(box.y, `at ${top}`).toBeGreaterThan(0)
      expect(box.y + box.height, `at ${top}`).toBeLessThan(viewport.height)
    }
    await context.close()
  }
})
