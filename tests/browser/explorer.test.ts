// The explorer of runs: what is typed, chosen and saved is an address, adds up, and is what the file has.
import { readFile } from 'node:fs/promises'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { type Account, Server } from './server'

let server: Server
let browser: Browser
let ada: Account

beforeAll(async () => {
  server = await Server.start()
  browser = await launch()
  ada = await server.account('explorer@example.com')
  await server.call(ada.token, 'PATCH', '/v1/workspace/', { max_concurrent_runs: 100 })
  await server.call(ada.token, 'PUT', '/v1/model-pricing/gpt-4o', { input_cost_per_token: 0.001, output_cost_per_token: 0.001 })
  const agent = server.agent(ada)
  for (const [user, title, name, tokens] of [
    ['acme/jo', 'Refund the double charges', 'billing', 500],
    ['acme/maria', 'Refund a late delivery', 'support', 2000],
    ['=1+1', '@SUM(A1)', 'billing', 100],
  ] as const) {
    const { id } = await agent.start(user, { title, agent: name })
    await agent.step(id, 1, { model: 'gpt-4o' }, { prompt: tokens })
    await agent.end(id)
  }
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

const rows = (page: Page) => page.locator('tbody tr:has([data-row])')
const titles = (page: Page) => page.locator('tbody [data-row]').allTextContents()
const shows = (page: Page, n: number) => page.waitForFunction((n) => document.querySelectorAll('tbody [data-row]').length === n, n)

test('what is typed finds, adds up, sorts, is an address, and Back undoes it', async () => {
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/runs')
  await settled(page)
  await shows(page, 3)
  await page.getByText('3 runs, $2.60, 0 denied').waitFor()
  await expect.poll(async () => (await server.call(ada.token, 'GET', '/v1/runs/?q=refund') as { items: unknown[] }).items.length).toBe(2)
  await page.keyboard.press('/')
  await page.keyboard.type('refund')
  await page.keyboard.press('Enter')
  await page.waitForURL('**/runs?q=refund')
  await shows(page, 2)
  await page.getByText('2 runs, $2.50, 0 denied').waitFor()
  await page.getByRole('link', { name: 'Cost' }).click()
  await page.waitForURL('**/runs?q=refund&sort=cost')
  await expect.poll(() => titles(page)).toEqual(['Refund a late delivery', 'Refund the double charges'])
  await page.keyboard.press('/')
  await page.keyboard.type('agent:billing cost > 0.4')
  await page.keyboard.press('Enter')
  await shows(page, 1)
  await page.getByText('1 run, $0.50, 0 denied').waitFor()
  await page.getByRole('button', { name: 'Remove filter agent billing' }).click()
  await shows(page, 2)
  await page.reload()
  await settled(page)
  await shows(page, 2)
  await page.goBack()
  await page.getByText('1 run, $0.50, 0 denied').waitFor()
  await page.keyboard.press('j')
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Refund the double charges' }).waitFor()
  expect(troubles).toEqual([])
  await context.close()
})

test('a view is saved under a name, found again, and deleted', async () => {
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/runs?tag=agent%3Abilling')
  await settled(page)
  await shows(page, 2)
  await page.getByRole('button', { name: 'Save view' }).click()
  await page.getByRole('dialog').getByLabel('Name').fill('Billing agents')
  await page.getByRole('dialog').getByRole('button', { name: 'Save view' }).click()
  await page.getByRole('link', { name: 'All runs', exact: true }).click()
  await shows(page, 3)
  await page.getByRole('link', { name: 'Billing agents' }).click()
  await page.waitForURL('**/runs?tag=agent%3Abilling')
  await shows(page, 2)
  await page.getByRole('button', { name: 'Delete view' }).click()
  await page.getByRole('link', { name: 'Billing agents' }).waitFor({ state: 'detached' })
  await context.close()
})

test('a mark below the chart leads to the runs of its time, by keys too', async () => {
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/runs?time=7d')
  await settled(page)
  // All runs are some minutes old: the marks are hours and minutes.
  const mark = page.locator('figure .axis').getByRole('link', { name: /^Runs of \d\d:\d\d UTC$/ }).first()
  await mark.focus()
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/runs\?since=[\dT%A-]+Z&until=[\dT%A-]+Z$/)
  expect(troubles).toEqual([])
  await context.close()
})

test('a range of days is in the address, and its fields say it', async () => {
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/runs?since=2026-11-02&until=2026-11-03')
  await settled(page)
  expect(await page.getByLabel('from').inputValue()).toBe('2026-11-02')
  await page.getByText('Mon 2 Nov to Tue 3 Nov, UTC').waitFor()
  await page.getByText('No run matches these filters.').waitFor()
  expect(troubles).toEqual([])
  await context.close()
})

test('each run says its agent, and each day its sums', async () => {
  const { page, context, troubles } = await visit(browser, server, ada, { viewport: { width: 1280, height: 900 } })
  await page.goto('/runs')
  await settled(page)
  await shows(page, 3)
  await expect.poll(() => page.locator('tr.day').first().textContent()).toMatch(/^Today, \w{3} \d+ \w{3}\s*3 runs, \$2\.60$/)
  await page.getByRole('row', { name: /Refund a late delivery/ }).getByRole('link', { name: 'support' }).click()
  await page.waitForURL('**/runs?tag=agent%3Asupport')
  await shows(page, 1)
  await page.getByRole('link', { name: 'Cost' }).click()
  await page.waitForURL(/sort=cost/)
  await expect.poll(() => page.locator('tr.day').count()).toBe(0)
  expect(troubles).toEqual([])
  await context.close()
})

test('a bar of the chart leads to its runs, by the arrow keys too, and is taken out again', async () => {
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/runs')
  await settled(page)
  const bars = page.locator('figure .plot a')
  await bars.focus()
  expect(await bars.getAttribute('aria-label')).toMatch(/^Runs of \w{3} \d+ \w{3}, \d\d:\d\d to \d\d:\d\d UTC$/)
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/runs\?since=[\dT%A-]+Z&until=[\dT%A-]+Z$/)
  await page.locator('tbody [data-row]').first().waitFor()
  await page.getByRole('button', { name: /^Remove filter started / }).click()
  await page.waitForURL((url) => url.search === '')
  await shows(page, 3)
  expect(troubles).toEqual([])
  await context.close()
})

test('today is the workspace’s, and says so', async () => {
  const bob = await server.account('zone@example.com')
  await server.call(bob.token, 'PATCH', '/v1/workspace/', { timezone: 'Asia/Kathmandu' })
  await server.agent(bob).start('u', { title: 'Now' })
  const { page, context } = await visit(browser, server, bob)
  const asked = page.waitForRequest((request) => /run-totals\?.*since=[^&]*T18%3A15%3A00/.test(request.url()))
  await page.goto('/runs?time=today')
  await asked
  await page.getByText(/^Today, \w{3} \d+ \w{3}, Asia\/Kathmandu, 1 running now\./).waitFor()
  await shows(page, 1)
  await context.close()
})

test('the file has exactly what is shown, and no formula', async () => {
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/runs?tag=agent%3Abilling')
  await settled(page)
  await shows(page, 2)
  const saved = page.waitForEvent('download')
  await page.getByRole('button', { name: 'Export CSV of 2 runs' }).click()
  const file = await saved
  expect(file.suggestedFilename()).toMatch(/^pikarc-runs-\d{4}-\d\d-\d\d\.csv$/)
  const text = await readFile(await file.path(), 'utf8')
  const lines = text.trim().split('\r\n')
  expect(lines).toHaveLength(3)
  expect(lines[1]).toContain(",'@SUM(A1),'=1+1,")
  expect(await rows(page).count()).toBe(2)
  await context.close()
})
