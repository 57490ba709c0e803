// Watching runs: what is new never moves what one reads.
import { execFile } from 'node:child_process'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { type Account, type Agent, Server } from './server'

let server: Server
let browser: Browser
let made = 0

beforeAll(async () => {
  server = await Server.start()
  browser = await launch()
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

/** An account of its own with room for many runs. */
async function account(): Promise<Account> {
  const one = await server.account(`watcher-${++made}@example.com`)
  await server.call(one.token, 'PATCH', '/v1/workspace/', { max_concurrent_runs: 1000 })
  return one
}

async function history(agent: Agent, runs: number) {
  for (let n = 1; n <= runs; n++) await agent.end((await agent.start('user', { task: `Old ${n}` })).id)
}

const rows = (page: Page) => page.locator('tbody tr:has([data-row])')

/** Where a run's row stands in the window. */
const place = (page: Page, name: string) =>
  page.getByRole('link', { name, exact: true }).evaluate((link) => Math.round(link.getBoundingClientRect().top))

test('at the top new runs come in; further down they wait behind a button and nothing moves', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  await history(agent, 45)
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/runs')
  await settled(page)
  await agent.start('user', { task: 'Came in' })
  await page.getByRole('link', { name: 'Came in' }).waitFor()

  await page.mouse.wheel(0, 600)
  await page.waitForFunction(() => window.scrollY > 300)
  const before = await place(page, 'Old 20')
  for (const n of [1, 2]) await agent.start('user', { task: `Waits ${n}` })
  const button = page.getByRole('button', { name: '2 new runs' })
  await button.waitFor()
  expect(await place(page, 'Old 20')).toBe(before)
  expect(await page.getByRole('link', { name: 'Waits 1' }).count()).toBe(0)
  await button.click()
  await page.getByRole('link', { name: 'Waits 2' }).waitFor()
  expect(await page.evaluate(() => window.scrollY)).toBe(0)
  expect(troubles).toEqual([])
  await context.close()
})

test('older runs are added below, each once, while newer ones start', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  await history(agent, 70)
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/runs')
  await settled(page)
  expect(await rows(page).count()).toBe(50)
  await agent.start('user', { task: 'Meanwhile' })
  await page.getByRole('link', { name: 'Meanwhile' }).waitFor()
  const more = page.getByRole('button', { name: 'Show older runs' })
  await more.scrollIntoViewIfNeeded()
  const before = await place(page, 'Old 25')
  await more.click()
  await page.getByRole('link', { name: 'Old 1', exact: true }).waitFor()
  expect(await place(page, 'Old 25')).toBe(before)
  const links = await rows(page).locator('[data-row]').evaluateAll((all) => all.map((link) => link.getAttribute('href')))
  expect(new Set(links).size).toBe(71)
  expect(links).toHaveLength(71)
  expect(await more.count()).toBe(0)
  await context.close()
})

test('Back returns to the same place in the list, to the pixel, and so does a reload', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  await history(agent, 210)
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/runs')
  await settled(page)
  for (const rows of [100, 150, 200]) {
    await page.getByRole('button', { name: 'Show older runs' }).click()
    await page.waitForFunction((n) => document.querySelectorAll('tbody [data-row]').length === n, rows)
  }
  const link = page.getByRole('link', { name: 'Old 40', exact: true })
  await link.scrollIntoViewIfNeeded()
  await page.evaluate(() => window.scrollBy(0, 77))
  const where = () => link.evaluate((element) => [element.getBoundingClientRect().top, document.querySelectorAll('tbody [data-row]').length])
  const before = await where()
  await link.click()
  await page.getByRole('heading', { name: 'Old 40' }).waitFor()
  expect(await page.evaluate(() => window.scrollY)).toBe(0)
  // What is new meanwhile waits, and moves nothing.
  for (const n of [1, 2, 3]) await agent.start('user', { task: `Meanwhile ${n}` })
  await page.goBack()
  await page.getByRole('button', { name: '3 new runs' }).waitFor()
  await expect.poll(where).toEqual(before)
  await page.reload()
  await page.getByRole('button', { name: '3 new runs' }).waitFor()
  await expect.poll(where).toEqual(before)
  // Another visit begins at the top.
  await page.getByRole('link', { name: 'Users', exact: true }).first().click()
  await page.getByRole('heading', { name: 'Users' }).waitFor()
  await page.getByRole('link', { name: /^Runs/ }).first().click()
  await page.getByRole('link', { name: 'Meanwhile 3' }).waitFor()
  expect(await page.evaluate(() => [window.scrollY, document.querySelectorAll('tbody [data-row]').length])).toEqual([0, 50])
  expect(troubles).toEqual([])
  await context.close()
})

test('agents that are gone hold places; their runs are ended together, and the living go on', async () => {
  const own = await Server.start()
  try {
    const ada = await own.account('ada@example.com')
    await own.call(ada.token, 'PATCH', '/v1/workspace/', { max_concurrent_runs: 4 })
    const agent = own.agent(ada)
    for (const n of [1, 2, 3]) await agent.start('user', { task: `Gone ${n}` })
    const { id } = await agent.start('user', { task: 'Alive' })
    expect((await agent.start('user')).decision.reason).toBe('MAX_CONCURRENT_RUNS_EXCEEDED')
    // Ten minutes pass, in which one of them calls.
    await own.down()
    await silence(own, 10)
    await own.up()
    await agent.ask(id, 1)

    const { page, context, troubles } = await visit(browser, own, ada)
    await page.goto('/overview')
    await page.getByRole('link', { name: 'Who holds the places, and end them' }).click()
    // The overview lists them too, until this page is there.
    const shown = async () => (await page.locator('tbody [data-row]').allTextContents()).map((name) => name.trim())
    await expect.poll(shown).toEqual(['Gone 1', 'Gone 2', 'Gone 3', 'Alive'])
    // Nobody has been silent for as long as is asked first.
    expect(await page.getByRole('button', { name: 'End 0 runs' }).getAttribute('aria-disabled')).toBe('true')
    await page.getByLabel('Silent for more than').selectOption('5 minutes')
    await page.getByRole('button', { name: 'End 3 runs' }).click()
    const dialog = page.getByRole('dialog', { name: 'End all runs that are silent for 5 minutes?' })
    await dialog.getByRole('button', { name: 'End 3 runs' }).click()
    await page.getByText('3 runs ended.').waitFor()
    await page.waitForFunction(() => document.querySelectorAll('tbody [data-row]').length === 1)
    expect(await rows(page).textContent()).toContain('Alive')
    expect((await agent.ask(id, 2)).decision.outcome).toBe('ALLOW')
    expect((await agent.start('user')).decision.outcome).toBe('ALLOW')
    expect(troubles).toEqual([])
    await context.close()
  } finally {
    await own.close()
  }
})

/** Makes all calls of the runs of a server that is down older. */
async function silence(server: Server, minutes: number) {
  const python = resolve(import.meta.dirname, '../client/.venv/bin/python')
  const program = `
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as db:
    db.execute('UPDATE runs SET last_call_at = last_call_at - 60000 * ?', (int(sys.argv[2]),))
`
  await promisify(execFile)(python, ['-c', program, join(server.dir, 'pikarc.db'), String(minutes)])
}

test('a run that does not exist says so', async () => {
  const { page, context } = await visit(browser, server, await account())
  for (const id of ['01a2073c-1a43-7c31-9f0a-6a1f0b8e4d52', 'nonsense']) {
    await page.goto(`/runs/${id}`)
    await page.getByText('There is no such run.').waitFor()
  }
  await page.goto('/runs?user_id=nobody')
  await page.getByText('No run matches these filters.').waitFor()
  await page.getByRole('link', { name: 'Show all runs' }).click()
  await page.getByText('No run yet.').waitFor()
  await context.close()
})

test('the keys go to pages, search, move and open, and can be turned off', async () => {
  const ada = await account()
  await history(server.agent(ada), 3)
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/overview')
  await settled(page)
  await page.keyboard.press('g')
  await page.keyboard.press('r')
  await page.waitForURL('**/runs')
  await page.waitForFunction(() => document.activeElement?.tagName === 'H1')
  await page.getByRole('link', { name: 'Old 3' }).waitFor()
  for (const key of ['j', 'j', 'j', 'k']) await page.keyboard.press(key)
  await page.keyboard.press('Enter')
  await page.getByRole('heading', { name: 'Old 2' }).waitFor()
  await page.goBack()
  await page.getByRole('link', { name: 'Old 3' }).waitFor()
  await page.keyboard.press('/')
  await page.keyboard.type('grep')
  expect(await page.getByRole('searchbox', { name: 'Search runs' }).inputValue()).toBe('grep')
  await page.keyboard.press('Enter')
  await page.waitForURL('**/runs?q=grep')

  await page.getByRole('heading', { name: 'Runs' }).focus()
  await page.keyboard.press('?')
  const help = page.getByRole('dialog', { name: 'Keys' })
  await help.getByRole('checkbox').uncheck()
  await page.keyboard.press('Escape')
  await help.waitFor({ state: 'hidden' })
  await page.keyboard.press('?')
  await page.keyboard.press('g')
  await page.keyboard.press('o')
  expect(page.url()).toContain('/runs')
  expect(await help.isVisible()).toBe(false)
  await context.close()
})

test('the chart’s numbers are one click away as a table, and the address keeps it', async () => {
  const ada = await account()
  const price = { input_cost_per_token: '0.0000025', output_cost_per_token: '0.00001' }
  await server.call(ada.token, 'PUT', '/v1/model-pricing/gpt-4o', price)
  const agent = server.agent(ada)
  const { id } = await agent.start('user')
  await agent.step(id, 1, { model: 'gpt-4o' }, { prompt: 500, completion: 100 })
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/overview')
  await page.getByRole('img', { name: /today \$0\.00225/ }).waitFor()
  await page.locator('canvas').waitFor()
  await page.getByRole('button', { name: 'Table' }).click()
  await page.waitForURL('**/overview?as=table')
  await page.reload()
  const table = page.getByRole('table', { name: 'Daily spend by model' })
  await table.getByText('$0.0023').first().waitFor()
  expect(await table.locator('tbody tr').count()).toBe(7)
  expect(troubles).toEqual([])
  await context.close()
})

test('copying says so', async () => {
  const ada = await account()
  const { page, context } = await visit(browser, server, ada, { permissions: ['clipboard-read', 'clipboard-write'] })
  await page.goto('/welcome')
  await page.getByRole('button', { name: 'Copy API key' }).click()
  await page.getByText('Copied', { exact: true }).waitFor()
  await page.getByText('API key copied').waitFor()
  expect(await page.evaluate(() => navigator.clipboard.readText())).toBe(ada.apiKey)
  await context.close()
})
