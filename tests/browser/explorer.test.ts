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

const rows = (page: Page) => page.locator('tbody tr')
const titles = (page: Page) => page.locator('tbody [data-row]').allTextContents()
const shows = (page: Page, n: number) => page.waitForFunction((n) => document.querySelectorAll('tbody tr').length === n, n)

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

test('a day of the chart leads to its runs, by keys too', async () => {
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/runs?time=7d')
  await settled(page)
  const day = page.getByRole('link', { name: /^Runs of \w{3} \d+$/ }).first()
  await day.focus()
  await page.keyboard.press('Enter')
  await page.waitForURL(/\/runs\?since=(\d{4}-\d\d-\d\d)&until=\1$/)
  expect(await page.getByLabel('from').inputValue()).toMatch(/^\d{4}-\d\d-\d\d$/)
  expect(troubles).toEqual([])
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
