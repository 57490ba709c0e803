// One run: what happened, why it was stopped, what it cost; any step of it, and what differs from the run that worked.
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { billingRun, PROMPT } from './billing-run'
import { launch, settled, visit, violations } from './browser'
import { type Account, Server } from './server'
import { withinLimit } from './tasks'

let server: Server
let browser: Browser
let shop: Account
let run: string
let made = 0

beforeAll(async () => {
  server = await Server.start()
  browser = await launch()
  shop = await server.account('shop@example.com')
  run = await billingRun(server, shop)
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

const account = () => server.account(`reader-${++made}@example.com`)
const billing = (query = '', options = {}) =>
  visit(browser, server, shop, options).then(async (visited) => {
    await visited.page.goto(`/runs/${run}${query}`)
    await settled(visited.page)
    return visited
  })
const panel = (page: Page, step: number) => page.getByRole('complementary', { name: `Step ${step}`, exact: true })

test('a running run is followed, read and ended by hand, and its agent is refused', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const { id } = await agent.start('user', { task: 'Followed' })
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto(`/runs/${id}`)
  await page.getByText('No step yet.').waitFor()
  expect(await page.title()).toBe('Followed · Pikarc')

  const text = 'word '.repeat(2000)
  await agent.step(id, 1, { tool_name: 'search', input_data: { text } }, { output: 'found it', ms: 3210 })
  const step = page.getByRole('link', { name: /^search/ })
  await step.waitFor()
  await page.getByText('3.2 s', { exact: true }).waitFor()
  // The first line of what went in and came out is in the row, all of it beside.
  await step.getByText(/word word/).waitFor()
  await step.getByText('found it').waitFor()
  await step.click()
  await page.getByRole('complementary', { name: 'Step 1' }).getByText('found it').waitFor()
  const shown = () => page.locator('pre').first().textContent()
  expect((await shown())!.length).toBeLessThan(2100)
  await page.getByRole('button', { name: /^Show all \(\d+ KB\)$/ }).click()
  expect((await shown())!.length).toBeGreaterThan(10_000)

  await page.getByRole('button', { name: 'End run' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'End run' }).click()
  await page.getByText('by hand in the dashboard').waitFor()
  expect((await agent.ask(id, 2)).decision.reason).toBe('RUN_ALREADY_ENDED')
  await page.getByText('Run already ended').waitFor()
  expect(troubles).toEqual([])
  await context.close()
})

test('tags lead to the runs that have them, and whoever the run is for is blocked beside the story', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const { id } = await agent.start('cust-1042', { task: 'Tagged', tags: { agent: 'billing', version: 'v14' } })
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto(`/runs/${id}`)
  await page.getByRole('link', { name: 'version v14' }).waitFor()
  await page.getByRole('link', { name: 'billing', exact: true }).click()
  await page.waitForURL('**/runs?tag=agent%3Abilling')
  await page.getByRole('link', { name: 'Tagged' }).click()
  await page.getByRole('button', { name: 'Block cust-1042' }).click()
  const dialog = page.getByRole('dialog', { name: 'Block user?' })
  await dialog.getByLabel('Reason').fill('chargebacks')
  await dialog.getByRole('button', { name: 'Block user' }).click()
  await page.getByText('cust-1042 is blocked.').waitFor()
  expect((await agent.ask(id, 1)).decision.reason).toBe('USER_BLOCKED')
  // Who is blocked already is not blocked again.
  await page.getByRole('link', { name: 'Look at the user' }).waitFor()
  expect(await page.getByRole('button', { name: 'Block cust-1042' }).count()).toBe(0)
  expect(troubles).toEqual([])
  await context.close()
})

test('a run with more steps than one answer holds is shown to its end', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const { id } = await agent.start('user')
  for (let n = 1; n <= 520; n += 40) {
    await Promise.all(Array.from({ length: 40 }, (_, i) => agent.step(id, n + i, { tool_name: `tool-${n + i}` })))
  }
  const { page, context } = await visit(browser, server, ada)
  await page.goto(`/runs/${id}`)
  await settled(page)
  const steps = page.getByRole('list', { name: 'Steps' }).getByRole('listitem')
  await page.waitForFunction(() => document.querySelector('main [aria-setsize="520"]') !== null)
  await page.evaluate(() => window.scrollTo(0, document.documentElement.scrollHeight))
  await page.getByRole('link', { name: 'tool-520' }).waitFor()
  // Only what is near the window is drawn.
  expect(await steps.count()).toBeLessThan(80)
  await page.getByRole('link', { name: 'tool-520' }).click()
  const panel = page.getByRole('complementary', { name: 'Step 520' })
  await panel.getByText('520 of 520').waitFor()
  await page.evaluate(() => window.scrollTo(0, 0))
  await page.getByRole('link', { name: /^tool-1(?!\d)/ }).waitFor()
  expect(await page.getByRole('link', { name: 'tool-300' }).count()).toBe(0)
  expect(await panel.isVisible()).toBe(true)
  // However fast they are pressed, the keys count: they do not wait for what is drawn.
  await page.getByRole('link', { name: /^tool-1(?!\d)/ }).focus()
  await page.evaluate(() => {
    for (let n = 2; n <= 120; n++) window.dispatchEvent(new KeyboardEvent('keydown', { key: 'j', cancelable: true }))
  })
  await page.waitForFunction(() => document.activeElement?.textContent?.includes('tool-120'))
  for (let n = 0; n < 30; n++) await page.keyboard.press('k')
  await page.waitForFunction(() => document.activeElement?.textContent?.includes('tool-90'))
  await page.keyboard.press('Enter')
  await page.getByRole('complementary', { name: 'Step 90' }).waitFor()
  await page.keyboard.press('Escape')
  await page.getByRole('complementary').filter({ hasText: 'Step 90' }).waitFor({ state: 'detached' })
  await context.close()
})

test('a step tells its tokens by their kinds, and what the provider says beside the cost', async () => {
  const ada = await account()
  await server.call(ada.token, 'PATCH', '/v1/workspace/', {
    trust_reported_cost: true,
  })
  await server.call(ada.token, 'PUT', '/v1/model-pricing/tool:search', {
    cost_per_call: 0.005,
  })
  const agent = server.agent(ada)
  const run = await agent.start('user', { task: 'Kinds' })
  const step = async (asked: object, used: object) => {
    const { id } = await server.call(ada.apiKey, 'POST', `/v1/runs/${run.id}/steps`, asked)
    await server.call(ada.apiKey, 'PATCH', `/v1/runs/${run.id}/steps/${id}`, {
      status: 'COMPLETED',
      ...used,
    })
  }
  await step(
    { type: 'MODEL_CALL', sequence: 1, model: 'claude-sonnet-4-5' },
    {
      usage: {
        input_tokens: 1000,
        cache_read_input_tokens: 9000,
        cache_creation_input_tokens: 500,
        output_tokens: 800,
        service_tier: 'standard',
      },
      reported_cost_usd: 0.0195,
    },
  )
  await step(
    { type: 'MODEL_CALL', sequence: 2, model: 'router/auto' },
    { prompt_tokens: 70, reported_cost_usd: 0.0007 },
  )
  await step({ type: 'TOOL_CALL', sequence: 3, tool_name: 'search' }, {})

  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto(`/runs/${run.id}`)
  await settled(page)
  for (const [at, words] of [
    [0, '10,500 in (9,000 read from a cache, 500 written to one) + 800 out = $0.019575'],
    [0, 'it cost $0.0195'],
    [1, 'none: what the provider reports is booked, because the workspace trusts it.'],
    [2, 'the call itself = $0.005'],
  ] as const) {
    await page.locator('main [data-row]').nth(at).click()
    await page.getByText(words).waitFor()
  }
  expect(await page.getByText('$0.00', { exact: true }).count()).toBe(0)
  expect(troubles).toEqual([])
  for (const width of [1440, 768, 390]) {
    await page.setViewportSize({ width, height: 900 })
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth)).toBe(true)
  }
  await context.close()
})

test('the story says what stopped the run, and the parts add up to what it cost', async () => {
  const { page, context, troubles } = await billing()
  const story = (await page.locator('.story').textContent())!
  expect(story).toMatch(/^Denied at step 23 after .+: cust-1042 had spent \$1\.53 of its \$1\.50 a day\. It opens again/)
  await page.getByText('16 of the 23 steps were one round, repeated 8 times: search_orders with the same input.').waitFor()
  const more = page.getByRole('button', { name: /more$/ })
  await more.click()
  await more.waitFor({ state: 'detached' })
  const table = page.getByRole('table', { name: 'Cost by model and tool' })
  const costs = await table.locator('tbody tr td:last-child').evaluateAll((cells) => cells.map((cell) => cell.getAttribute('title')!))
  const nanos = (usd: string) => {
    const [whole, fraction = ''] = usd.replace(/[$,]/g, '').split('.')
    return BigInt(whole!) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'))
  }
  expect(costs.length).toBe(7)
  const cost = await page.locator('dd.large').first().textContent()
  expect(costs.map(nanos).reduce((a, b) => a + b)).toBe(nanos(cost!.trim()))
  expect(nanos(cost!.trim())).toBe(1_528_000_000n + 1_000_000n)
  expect(troubles).toEqual([])
  await context.close()
})

test('jumps, filters and folds show what one looks for; a link to a step leads to it, and Back to where one was', async () => {
  const { page, context, troubles } = await billing('', { viewport: { width: 1280, height: 500 } })
  await page.getByRole('link', { name: 'First failed' }).click()
  await panel(page, 5).getByText('SMTP 451: try again later').waitFor()
  await page.getByRole('link', { name: 'Most expensive' }).click()
  await panel(page, 22).getByText('You are the billing agent.').waitFor()
  // The conversation, and the same as JSON.
  await panel(page, 22).getByText('refund order A-20417, amount 95').waitFor()
  await panel(page, 22).getByRole('button', { name: 'JSON' }).click()
  await panel(page, 22).getByText('"tool_calls"').waitFor()
  await page.getByRole('link', { name: 'Close' }).click()
  await page.getByRole('link', { name: 'Problems 2' }).click()
  await page.waitForFunction(() => document.querySelectorAll('main [aria-posinset]').length === 2)
  await page.getByRole('link', { name: 'All 23' }).click()
  const fold = page.getByRole('button', { name: /gpt-4o, search_orders × 8/ })
  await fold.click()
  await page.waitForFunction(() => document.querySelector('main [aria-setsize="24"]') !== null)
  const address = await page.getByRole('link', { name: /^search_orders/ }).nth(3).getAttribute('href')
  await fold.click()
  await page.evaluate(() => window.scrollTo(0, 333))
  const scrolled = await page.evaluate(() => window.scrollY)
  await page.evaluate(() => document.querySelector<HTMLAnchorElement>('main a[href*="/users/"]')!.click())
  await page.waitForURL('**/users/*')
  await page.goBack()
  await expect.poll(() => page.evaluate(() => window.scrollY)).toBe(scrolled)

  // A link to a step within a fold opens it, scrolls there and marks the step.
  const other = await context.newPage()
  await other.goto(server.url + address)
  const current = other.locator('main [data-row][aria-current]')
  await current.waitFor()
  expect(await current.getAttribute('href')).toBe(address)
  await expect.poll(() => current.evaluate((row) => {
    const { top, bottom } = row.getBoundingClientRect()
    return top >= 0 && bottom <= innerHeight
  })).toBe(true)
  expect(troubles).toEqual([])
  await context.close()
})

test('a run beside another one: what it cost more, and where they first differ', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const one = async (inputs: string[], fails = false) => {
    const { id } = await agent.start('user', { title: 'Nightly report' })
    for (const [i, text] of inputs.entries())
      await agent.step(id, i + 1, { tool_name: 'read', input_data: { text } }, fails && i === 2 ? { error: 'gone' } : {})
    await agent.end(id, fails ? 'FAILED' : 'COMPLETED')
    return id
  }
  const good = await one(['a', 'b', 'c', 'd'])
  const bad = await one(['a', 'x', 'c'], true)
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto(`/runs/${bad}`)
  await settled(page)
  await page.getByRole('button', { name: 'Compare' }).click()
  await page.getByRole('dialog').getByRole('link', { name: 'Nightly report' }).click()
  await page.waitForURL(`**/runs/${bad}?with=${good}`)
  await page.getByText('First difference: step 2, read: another input. 3 of 4 steps differ.').waitFor()
  await page.getByText('another outcome').waitFor()
  await page.getByLabel('Only what differs').check()
  await page.waitForFunction(() => document.querySelectorAll('main [aria-posinset]').length === 3)
  expect(await violations(page)).toEqual([])
  await page.getByRole('link', { name: 'step 2, read' }).click()
  await panel(page, 2).getByText('"x"').waitFor()
  // The runs before and after it are one press away.
  await page.getByRole('link', { name: 'Older run' }).click()
  await page.waitForURL(`**/runs/${good}`)
  expect(troubles).toEqual([])
  await context.close()
})

test('from “it failed yesterday” to what the failing step was sent', async () => {
  const { page, context } = await visit(browser, server, shop)
  const click = (name: string | RegExp) => page.getByRole('link', { name }).first().click()
  await page.goto('/overview')
  await settled(page)
  await click(/^Runs/)
  await click('Refund the double charges')
  await page.getByText('1 of 1', { exact: true }).waitFor() // in the list that one came from
  await click('First failed')
  await panel(page, 5).getByText('billing@northwind.example').first().waitFor()
  await withinLimit(page)
  await context.close()
})

describe('at every width', () => {
  // 400 % of 1280 and 768 px are 320 and 192 px wide: WCAG asks for 320.
  const widths = [320, 360, 600, 768, 900, 1024, 1280, 1440, 1920]
  test.each(['light', 'dark'] as const)('nothing goes beyond the edge, and axe finds nothing (%s)', async (colorScheme) => {
    const { page, context, troubles } = await billing('', { colorScheme })
    await page.getByRole('link', { name: 'First denied' }).click()
    await panel(page, 23).getByText('A-20417').first().waitFor()
    for (const width of widths) {
      await page.setViewportSize({ width, height: 800 })
      const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      expect(beyond, `${width} px`).toBeLessThanOrEqual(0)
      const small = await page.evaluate(() =>
        [...document.querySelectorAll('main :is(a, button):not(p a)')]
          .filter((each) => {
            const { width, height } = each.getBoundingClientRect()
            return width > 0 && (width < 24 || height < 23.9)
          })
          .map((each) => each.outerHTML.slice(0, 100)),
      )
      expect(small, `${width} px`).toEqual([])
      if (width === 320 || width === 1440) expect(await violations(page)).toEqual([])
    }
    expect(troubles).toEqual([])
    await context.close()
  })

  test('on paper all rows are there, and no button', async () => {
    const { page, context } = await billing('', { viewport: { width: 900, height: 300 } })
    await page.emulateMedia({ media: 'print' })
    await page.waitForFunction(() => document.querySelectorAll('main [aria-posinset]').length === 8)
    await page.getByText(PROMPT.slice(0, 40)).first().waitFor()
    expect(await page.getByRole('button', { name: 'Compare' }).isVisible()).toBe(false)
    await context.close()
  })
})
