// Every page, as everybody meets it: on a phone, in light and dark, with the texts of strangers in it.
import { readFileSync } from 'node:fs'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, shown, violations, visit } from './browser'
import { addressOf, routes, visits } from './routes'
import { type Account, Server } from './server'
import { tasks } from './tasks'

const hostile = ['<img src=x onerror="document.title=\'owned\'">', '\u202Egnp.exe', '用户-😀', 'w'.repeat(255)]

let server: Server
let browser: Browser
let account: Account
let run: string // of the widest text
const runs: [text: string, id: string][] = []

beforeAll(async () => {
  server = await Server.start()
  browser = await launch()
  account = await server.account('ada@example.com')
  await server.call(account.token, 'PATCH', '/v1/workspace/', { max_concurrent_runs: 100, daily_budget_usd: '5' })
  const price = { input_cost_per_token: '0.0000025', output_cost_per_token: '0.00001' }
  await server.call(account.token, 'PUT', '/v1/model-pricing/gpt-4o', price)
  const agent = server.agent(account)
  for (const text of hostile) {
    const started = await agent.start(text, { task: text + ' ' + 'long '.repeat(2000), nested: { [text]: text } })
    run = started.id
    runs.push([text, run])
    await agent.step(run, 1, { model: 'gpt-4o', input_data: { text: text.repeat(40) } }, { prompt: 500, completion: 100 })
    await agent.step(run, 2, { tool_name: text.slice(0, 255) }, { output: { text }, error: text })
    await agent.step(run, 3, { model: text.slice(0, 255) }, { prompt: 7 })
    await agent.end(run)
  }
  await server.reviews(account, 'reviewed', hostile.join(' ').repeat(3))
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

test('the list of pages is whole', () => {
  expect(routes.length).toBeGreaterThanOrEqual(14)
  expect(routes.filter(({ access }) => access === 'outside').map(({ path }) => path)).toEqual(['/sign-in', '/register'])
})

test.each(tasks)('the task “$name” has a test that counts its presses', ({ file, name }) => {
  const source = readFileSync(new URL(file, import.meta.url), 'utf8')
  const body = source.split('\ntest').find((each) => [`('${name}',`, `("${name}",`].some((head) => each.startsWith(head)))
  expect(body).toContain('withinLimit(page')
})

test('each of the people of docs/tasks.md has a task', () => {
  expect(tasks.length).toBeGreaterThanOrEqual(5)
})

test.each(visits)('%s (signed in: %s) is accessible, fits, and breaks no policy', async (path, signedIn) => {
  const { page, context, troubles } = await visit(browser, server, signedIn ? account : undefined)
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme })
    await page.goto(addressOf(path, run, hostile[0]!))
    await settled(page)
    for (const width of [1280, 360]) {
      // Of the API reference, which is the same for both, axe looks at ten thousand elements: each width and theme once.
      if (path === '/docs' && (signedIn !== (width === 1280) || signedIn !== (colorScheme === 'light'))) continue
      await page.setViewportSize({ width, height: 740 })
      // A theme changes nothing but colours.
      const rules = colorScheme === 'dark' && path !== '/docs' ? ['color-contrast'] : []
      expect(await violations(page, rules), `${width} px, ${colorScheme}`).toEqual([])
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
      expect(wide, `pixels beyond the right edge of ${width}`).toBeLessThanOrEqual(0)
    }
  }
  expect(await page.title()).not.toBe('owned')
  expect(troubles).toEqual([])
  await context.close()
})

test.each(['/sign-in', '/overview', '/runs', '/runs/{id}', '/limits'])('%s takes all that was asked for before its code was there', async (path) => {
  const { page, context } = await visit(browser, server, path === '/sign-in' ? undefined : account)
  // The first word of the stream would throw away what is left. What a worker asks for, no route holds back.
  await context.addInitScript(() => delete (window as { SharedWorker?: unknown }).SharedWorker)
  await page.route('**/v1/events', () => {})
  await page.goto(addressOf(path, run, hostile[0]!))
  await settled(page)
  const left = await page.evaluate(() => {
    const { pikarcEarly } = window as unknown as { pikarcEarly: { answers: Map<string, unknown> } }
    return [...pikarcEarly.answers.keys()]
  })
  expect(left).toEqual([])
  await context.close()
})

test('texts of strangers are shown as text in a list of runs and in a run', async () => {
  const { page, context, troubles } = await visit(browser, server, account)
  await page.goto('/runs')
  await settled(page)
  for (const text of hostile) await page.locator('tbody').getByText(shown(text).slice(0, 60)).filter({ visible: true }).first().waitFor()
  for (const [text, id] of runs) {
    await page.goto(`/runs/${id}`)
    await settled(page)
    await page.getByText(shown(text).slice(0, 100)).first().waitFor()
    expect(await page.locator('main img').count()).toBe(0)
    for (const row of await page.locator('main [data-row]').all()) {
      await row.click()
      const panel = page.getByRole('complementary', { name: /^Step \d/ })
      await panel.getByText(/^(Cost|Step|Used)$/).first().waitFor()
      if ((await row.textContent())!.includes('→')) await panel.locator('pre').first().waitFor()
    }
    expect(await page.locator('main').textContent()).not.toMatch(/[\u202A-\u202E\u2066-\u2069]/)
    expect(await page.title()).not.toBe('owned')
  }
  expect(troubles).toEqual([])
  await context.close()
})
