// Every page, as everybody meets it: on a phone, in light and dark, with the texts of strangers in it.
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { launch, settled, violations, visit } from './browser'
import { type Account, Server } from './server'

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
  await server.call(account.apiKey, 'PATCH', '/v1/workspace/', { max_concurrent_runs: 100, daily_budget_usd: '5' })
  const price = { input_cost_per_token: '0.0000025', output_cost_per_token: '0.00001' }
  await server.call(account.apiKey, 'PUT', '/v1/model-pricing/gpt-4o', price)
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
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

const inside = ['welcome', 'overview', 'runs', 'run', 'users', 'prices', 'limits', 'api-key', 'plan', 'account', 'docs']
const outside = ['sign-in', 'register', 'docs']

describe.each([
  { colorScheme: 'light', width: 360 },
  { colorScheme: 'dark', width: 1280 },
] as const)('in $colorScheme, $width px wide', ({ colorScheme, width }) => {
  test.each([...inside.map((name) => [name, true] as const), ...outside.map((name) => [name, false] as const)])(
    '%s (signed in: %s) is accessible, fits, and breaks no policy',
    async (name, signedIn) => {
      const options = { colorScheme, viewport: { width, height: 740 } }
      const { page, context, troubles } = await visit(browser, server, signedIn ? account : undefined, options)
      await page.goto(name === 'run' ? `/runs/${run}` : `/${name}`)
      await settled(page)
      expect(await violations(page)).toEqual([])
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
      expect(wide, 'pixels beyond the right edge').toBeLessThanOrEqual(0)
      expect(await page.title()).not.toBe('owned')
      expect(troubles).toEqual([])
      await context.close()
    },
  )
})

test('texts of strangers are shown as text in a list of runs and in a run', async () => {
  const { page, context, troubles } = await visit(browser, server, account)
  await page.goto('/runs')
  await settled(page)
  for (const text of hostile) await page.getByText(text.slice(0, 60)).first().waitFor()
  for (const [text, id] of runs) {
    await page.goto(`/runs/${id}`)
    await settled(page)
    await page.getByText(text.slice(0, 100)).first().waitFor()
    expect(await page.locator('main img').count()).toBe(0)
    expect(await page.title()).not.toBe('owned')
  }
  expect(troubles).toEqual([])
  await context.close()
})
