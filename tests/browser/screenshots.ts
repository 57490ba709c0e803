// Pictures of every page, to be looked at one by one: `make screenshots` puts them into screenshots/.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, test } from 'vitest'
import { launch, settled } from './browser'
import { routes } from './routes'
import { type Account, Server, until } from './server'

const binary = resolve(import.meta.dirname, process.env.PIKARC_BINARY ?? '../../pikarc')
const out = join(import.meta.dirname, 'screenshots')
const sizes = [
  { width: 390, height: 844 },
  { width: 768, height: 1024 },
  { width: 1440, height: 900 },
]
const pages = routes.filter(({ path, access }) => access !== 'outside' && !path.includes('{')).map(({ path }) => path)

let browser: Browser
beforeAll(async () => {
  await mkdir(out, { recursive: true })
  browser = await launch()
})
afterAll(() => browser?.close())

/** Takes pictures of one page after another. */
type Camera = {
  page: Page
  /** Of a whole page. */
  shoot: (path: string, name: string) => Promise<void>
  /** Of what a button opens. */
  dialog: (path: string, button: string | RegExp, name: string) => Promise<void>
}

/** Calls a function for each size, in light and dark; nobody is signed in without a token. */
async function atAllSizes(url: string, token: string, take: (camera: Camera) => Promise<void>) {
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const viewport of sizes) {
      const context = await browser.newContext({ baseURL: url, viewport, colorScheme, reducedMotion: 'reduce' })
      if (token) await context.addInitScript((value) => localStorage.setItem('pikarc.token', value), token)
      const page = await context.newPage()
      const file = (name: string) => join(out, `${name}-${viewport.width}-${colorScheme}.png`)
      const open = async (path: string) => {
        await page.goto(path)
        await settled(page)
      }
      await take({
        page,
        shoot: async (path, name) => {
          await open(path)
          await page.screenshot({ path: file(name), fullPage: true })
        },
        dialog: async (path, button, name) => {
          await open(path)
          await page.getByRole('button', { name: button }).first().click()
          await page.getByRole('dialog').waitFor()
          await page.screenshot({ path: file(name) })
        },
      })
      await context.close()
    }
  }
}

test('every page of the demo is pictured', async () => {
  const demo = spawn(binary, ['demo', '--addr', 'localhost:0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  demo.stdout.on('data', (text) => (said += text))
  try {
    await until('the demo to say where it is', () => /Password +\S+/.test(said))
    const found = (pattern: RegExp) => pattern.exec(said)![1]!
    const url = found(/demo: (http:\S+[^/])\/?\s/)
    const login = await fetch(url + '/v1/auth/login', {
      method: 'POST',
      body: JSON.stringify({ email: found(/Email +(\S+)/), password: found(/Password +(\S+)/) }),
    })
    const { access_token: token } = (await login.json()) as { access_token: string }
    const newest = async (filter: string) => {
      const list = await fetch(url + '/v1/runs/?limit=200&' + filter, { headers: { Authorization: `Bearer ${token}` } })
      const { items } = (await list.json()) as { items: { id: string; user_id: string; step_count: number }[] }
      return items.sort((a, b) => b.step_count - a.step_count)[0]!
    }
    // The longest of the newest: one that did well, and one that was stopped on its way.
    const done = await newest('status=COMPLETED')
    const stopped = await newest('reason=WORKSPACE_DAILY_BUDGET_EXCEEDED')
    await atAllSizes(url, '', async ({ shoot }) => {
      await shoot('/sign-in', 'sign-in')
      await shoot('/register', 'register')
    })
    await atAllSizes(url, token, async ({ shoot, dialog }) => {
      for (const path of pages) await shoot(path, path.slice(1))
      await shoot('/runs/' + done.id, 'run')
      await shoot('/runs/' + stopped.id, 'run-stopped')
      await shoot('/runs?status=RUNNING&sort=last_call', 'runs-by-last-call')
      await shoot('/prices?add=&inactive=true', 'prices-add')
      const user = '/users/' + encodeURIComponent(done.user_id)
      await shoot(user, 'user')
      await dialog(user, /^Erase/, 'user-erase')
      await dialog('/overview', 'Stop all agents', 'overview-stop')
    })
  } finally {
    demo.kill('SIGTERM')
    await once(demo, 'exit')
  }
}, 600_000)

test('every page of an empty workspace is pictured', async () => {
  const server = await Server.start()
  try {
    await atAllSizes(server.url, '', ({ shoot }) => shoot('/', 'first-account'))
    const { token } = await server.account('ada@example.com', 'basic')
    await atAllSizes(server.url, token, async ({ shoot }) => {
      for (const path of pages.filter((path) => path !== '/docs')) await shoot(path, 'empty-' + path.slice(1))
    })
  } finally {
    await server.close()
  }
}, 600_000)

test('what goes wrong is pictured', async () => {
  const server = await Server.start()
  try {
    const ada = await server.account('ada@example.com')
    const run = await trouble(server, ada)
    const set = (method: string, path: string, body: object) => server.call(ada.token, method, path, body)
    await atAllSizes(server.url, ada.token, async ({ page, shoot, dialog }) => {
      await shoot('/runs/' + run, 'trouble-run-closed')
      await page.locator('main [data-row]').first().click()
      await page.screenshot({ path: join(out, `trouble-run-${page.viewportSize()!.width}.png`), fullPage: true })
      await shoot('/runs', 'trouble-runs')
      await shoot('/overview', 'trouble-overview')
      await shoot('/prices', 'trouble-prices')
      await shoot('/users', 'trouble-users')
      await shoot('/api-keys?ended=true', 'trouble-api-keys')
      await dialog('/api-keys', 'Regenerate key', 'api-keys-regenerate')
      await dialog('/api-keys', /^Revoke/, 'api-keys-revoke')
      await page.goto('/api-keys')
      await page.getByLabel('Name').fill('made just now')
      await page.getByRole('button', { name: 'Create key' }).click()
      await page.getByText('It is not shown again.').waitFor()
      await page.screenshot({ path: join(out, `api-keys-created-${page.viewportSize()!.width}.png`), fullPage: true })
    })
    await set('POST', '/v1/workspace/kill-switch', { active: true })
    await atAllSizes(server.url, ada.token, ({ shoot }) => shoot('/overview', 'overview-stopped'))
    await set('POST', '/v1/workspace/kill-switch', { active: false })
    await set('PATCH', '/v1/workspace/', { daily_budget_usd: '0.002' })
    await atAllSizes(server.url, ada.token, ({ shoot }) => shoot('/overview', 'overview-budget-spent'))
    await set('PATCH', '/v1/workspace/', { daily_budget_usd: null, max_concurrent_runs: 1 })
    await atAllSizes(server.url, ada.token, ({ shoot }) => shoot('/overview', 'overview-full'))
  } finally {
    await server.close()
  }
}, 600_000)

/** Whatever needs a word of its own: repaired, without a price, without usage, cut, of several keys. Returns a run of it. */
async function trouble(server: Server, ada: Account): Promise<string> {
  const set = (method: string, path: string, body: object) => server.call(ada.token, method, path, body)
  await set('PATCH', '/v1/workspace/', { max_concurrent_runs: 20 })
  await set('PUT', '/v1/model-pricing/gpt-4o', { input_cost_per_token: '0.0000025', output_cost_per_token: '0.00001' })
  await set('PUT', '/v1/model-pricing/per-million', { input_cost_per_token: '2.5', output_cost_per_token: '10' })
  await set('POST', '/v1/api-keys/', { label: 'terraform', scope: 'admin' })
  await set('POST', '/v1/api-keys/', { label: 'nightly reports of the finance team', scope: 'read', expires_at: new Date(Date.now() + 90 * 864e5).toISOString() })
  const gone = await set('POST', '/v1/api-keys/', { label: 'old agent' })
  await set('DELETE', `/v1/api-keys/${gone.id}`, {}).catch(() => {})
  const agent = server.agent(ada)
  const { id } = await agent.start('maria@example.com', { task: 'Compare offers\u0000', notes: 'x' })
  await agent.step(id, 1, { model: 'gpt-4o', input_data: { text: 'a\u0000b' } }, { prompt: 500, completion: 100 })
  await agent.step(id, 2, { model: 'unheard-of/model' }, { prompt: 12_000, completion: 3_000 })
  await agent.step(id, 3, { model: 'gpt-4o' })
  await agent.step(id, 4, { tool_name: 'search' }, { error: 'No route to host' })
  const dear = await agent.start('bob')
  await agent.step(dear.id, 1, { model: 'per-million' }, { prompt: 40_000_000, completion: 1 })
  await agent.step(dear.id, 2, { model: 'per-million' }, { prompt: 10_000_000, completion: 1 })
  await set('POST', '/v1/blocked-users', { user_id: 'bob', reason: 'Typed a price for a million tokens' })
  await agent.ask(dear.id, 3)
  return id
}
