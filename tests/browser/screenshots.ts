// Pictures of every page, to be looked at one by one: `make screenshots` puts them into screenshots/.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { test } from 'vitest'
import { launch, settled } from './browser'
import { routes } from './routes'
import { until } from './server'

const binary = resolve(import.meta.dirname, process.env.PIKARC_BINARY ?? '../../pikarc')
const out = join(import.meta.dirname, 'screenshots')
const sizes = [
  { width: 390, height: 844 },
  { width: 1280, height: 900 },
  { width: 1920, height: 1080 },
]
const pages = routes.filter(({ path, access }) => access !== 'outside' && !path.includes('{'))

test('every page is pictured', async () => {
  await mkdir(out, { recursive: true })
  const demo = spawn(binary, ['demo', '--addr', 'localhost:0'], { stdio: ['ignore', 'pipe', 'inherit'] })
  let said = ''
  demo.stdout.on('data', (text) => (said += text))
  const browser = await launch()
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
      const { items } = (await list.json()) as { items: { id: string; step_count: number }[] }
      return items.sort((a, b) => b.step_count - a.step_count)[0]!.id
    }
    // The longest of the newest: one that did well, and one that was stopped on its way.
    const done = await newest('status=COMPLETED')
    const stopped = await newest('reason=WORKSPACE_DAILY_BUDGET_EXCEEDED')
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const viewport of sizes) {
        const context = await browser.newContext({ baseURL: url, viewport, colorScheme, reducedMotion: 'reduce' })
        const page = await context.newPage()
        const shoot = async (path: string, name: string) => {
          await page.goto(path)
          await settled(page)
          await page.screenshot({ path: join(out, `${name}-${viewport.width}-${colorScheme}.png`) })
        }
        await shoot('/sign-in', 'sign-in')
        await shoot('/register', 'register')
        await page.evaluate((value) => localStorage.setItem('pikarc.token', value), token)
        for (const { path } of pages) await shoot(path, path.slice(1))
        await shoot('/runs/' + done, 'run')
        await shoot('/runs/' + stopped, 'run-stopped')
        await context.close()
      }
    }
  } finally {
    await browser.close()
    demo.kill('SIGTERM')
    await once(demo, 'exit')
  }
}, 600_000)
