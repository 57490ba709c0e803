// The keys of a workspace: made, copied once, replaced without stopping agents, and ended.
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { type Account, Agent, Server } from './server'

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

async function account(): Promise<Account> {
  const one = await server.account(`holder-${++made}@example.com`)
  await server.call(one.token, 'PATCH', '/v1/workspace/', { max_concurrent_runs: 100 })
  return one
}

const row = (page: Page, label: string) => page.locator('tbody tr', { hasText: label })

/** What the server answers to a key that reads, and to one that starts a run. */
async function mayDo(key: string): Promise<[read: number, start: number]> {
  const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' }
  const read = await fetch(server.url + '/v1/runs/', { headers })
  const start = await fetch(server.url + '/v1/runs/', { method: 'POST', headers, body: JSON.stringify({ user_id: 'u' }) })
  return [read.status, start.status]
}

async function createdKey(ada: Account, label: string): Promise<string> {
  return (await server.call(ada.token, 'POST', '/v1/api-keys/', { label })).key
}

test('a key is made with a scope and an end, shown and copied once, and then only listed', async () => {
  const ada = await account()
  const { page, context, troubles } = await visit(browser, server, ada, { permissions: ['clipboard-read', 'clipboard-write'] })
  await page.goto('/api-keys')
  await settled(page)
  await page.getByRole('button', { name: 'Create key' }).click()
  await page.locator('[aria-invalid="true"]').waitFor()
  await page.getByLabel('Name').fill('nightly reports')
  await page.getByLabel('Scope').selectOption('read')
  await page.getByLabel('Ends', { exact: true }).selectOption('in 90 days')
  await page.getByRole('button', { name: 'Create key' }).click()
  await page.getByText('It is not shown again.').waitFor()
  await page.getByRole('button', { name: 'Copy New API key' }).click()
  await page.getByText('Copied', { exact: true }).waitFor()
  const key = await page.evaluate(() => navigator.clipboard.readText())
  expect(key).toMatch(/^lg_[0-9a-f]{8}_[0-9a-f]{64}$/)
  expect(await mayDo(key)).toEqual([200, 401])

  const listed = row(page, 'nightly reports')
  await listed.waitFor()
  expect(await listed.textContent()).toMatch(/read.*UTC.*UTC/)
  await page.reload()
  await settled(page)
  expect(await listed.textContent()).toContain(key.slice(0, 12))
  expect(await page.content()).not.toContain(key)
  expect(troubles).toEqual([])
  await context.close()
})

test('a key that is revoked is refused at once, after a question that says how many agents it stops', async () => {
  const ada = await account()
  const key = await createdKey(ada, 'crawler')
  const agent = new Agent(server, key)
  for (const n of [1, 2]) await agent.start('user', { task: `Crawl ${n}` })
  await server.agent(ada).start('user', { task: 'Of another key' })
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/api-keys')
  await settled(page)
  // The count leads to the runs that it counts.
  await row(page, 'crawler').getByRole('link', { name: '2', exact: true }).click()
  await page.getByRole('link', { name: 'Crawl 2' }).waitFor()
  expect(await page.locator('tbody tr').filter({ hasText: 'Crawl' }).count()).toBe(2)
  expect(await page.getByRole('link', { name: 'Of another key' }).count()).toBe(0)
  // Under the pointer nothing would come in.
  await page.mouse.move(0, 0)
  await agent.start('user', { task: 'Crawl 3' })
  await page.getByRole('link', { name: 'Crawl 3' }).waitFor()
  expect(await page.getByRole('link', { name: 'Of another key' }).count()).toBe(0)
  await page.goto('/api-keys')

  await page.getByRole('button', { name: 'Revoke crawler' }).click()
  const dialog = page.getByRole('dialog', { name: 'Revoke this API key?' })
  await dialog.getByText('3 running agents will be stopped.').waitFor()
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  expect((await mayDo(key))[0]).toBe(200)
  await page.getByRole('button', { name: 'Revoke crawler' }).click()
  await dialog.getByRole('button', { name: 'Revoke key' }).click()
  await row(page, 'crawler').waitFor({ state: 'detached' })
  expect(await mayDo(key)).toEqual([401, 401])
  expect((await mayDo(ada.apiKey))[0]).toBe(200)
  await page.getByRole('link', { name: 'Show ended keys' }).click()
  await row(page, 'crawler').waitFor()
  expect(await row(page, 'crawler').textContent()).toContain('revoked')
  expect(troubles).toEqual([])
  await context.close()
})

test('the first key is replaced: with an overlap both work, without one the old one is refused', async () => {
  const ada = await account()
  await server.agent(ada).start('user')
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/api-keys')
  await settled(page)
  const shownKey = () => page.locator('.key code').textContent()
  const regenerate = page.getByRole('button', { name: 'Regenerate key' })
  const dialog = page.getByRole('dialog', { name: 'Regenerate the API key?' })
  await page.getByLabel('The old key ends').selectOption('after 15 minutes')
  await regenerate.click()
  await dialog.getByText('The old key ends after 15 minutes. 1 running agent uses it now.').waitFor()
  await dialog.getByRole('button', { name: 'Regenerate key' }).click()
  await page.getByText('the old one goes on for the time that you chose').waitFor()
  const second = (await shownKey())!
  expect(second).toMatch(/^lg_[0-9a-f]{8}_[0-9a-f]{64}$/)
  expect([await mayDo(ada.apiKey), await mayDo(second)]).toEqual([[200, 201], [200, 201]])
  // Both are listed, the old one with its end.
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 2)
  expect(await row(page, ada.apiKey.slice(0, 12)).textContent()).toMatch(/UTC.*UTC/)

  await page.getByLabel('The old key ends').selectOption('at once')
  await regenerate.click()
  await dialog.getByText('1 running agent will be stopped at its next call').waitFor()
  await dialog.getByRole('button', { name: 'Regenerate key' }).click()
  await page.getByText('the old one is refused from now on').waitFor()
  const third = (await shownKey())!
  expect(third).not.toBe(second)
  expect((await mayDo(second))[0]).toBe(401)
  expect((await mayDo(third))[0]).toBe(200)
  expect(troubles).toEqual([])
  await context.close()
})

/** What the event stream says from now on, up to the change of a key. */
async function heardOfTheKey(token: string): Promise<{ heard: Promise<string>; open: Promise<void> }> {
  const response = await fetch(server.url + '/v1/events', { headers: { Authorization: `Bearer ${token}` } })
  const reader = response.body!.getReader()
  const decoder = new TextDecoder()
  let opened = () => {}
  const open = new Promise<void>((done) => (opened = done))
  const heard = (async () => {
    let text = ''
    while (!/"what":"api_key"[^\n]*\n\n/.test(text)) {
      text += decoder.decode((await reader.read()).value, { stream: true })
      if (text.includes('event: hello')) opened()
    }
    await reader.cancel()
    return text
  })()
  return { heard, open }
}

test.each(['the event', 'the answer'] as const)('a regenerated key is shown where %s comes first', async (first) => {
  const ada = await account()
  const { page, context, troubles } = await visit(browser, server, ada)
  // What a worker asks for, no route holds back.
  await context.addInitScript(() => delete (window as { SharedWorker?: unknown }).SharedWorker)
  const { heard, open } = await heardOfTheKey(ada.token)
  await open
  let shownFirst = () => {}
  const other = new Promise<void>((done) => (shownFirst = done))
  if (first === 'the answer') {
    let streams = 0
    await page.route('**/v1/events', async (route) => {
      if (streams++ > 0) return route.continue()
      await other
      await route.fulfill({ contentType: 'text/event-stream', body: await heard })
    })
  } else {
    await page.route('**/v1/api-keys/regenerate', async (route) => {
      const response = await route.fetch()
      await other
      await route.fulfill({ response })
    })
  }
  await page.goto('/api-keys')
  await settled(page)
  const box = page.locator('dl', { has: page.getByText('Prefix', { exact: true }) })
  await box.getByText(ada.apiKey.slice(3, 11)).first().waitFor()
  await page.getByRole('button', { name: 'Regenerate key' }).click()
  await page.getByRole('dialog').getByRole('button', { name: 'Regenerate key' }).click()
  const { key } = await (async () => {
    for (;;) {
      const found = await server.call(ada.token, 'GET', '/v1/api-keys/')
      if (found.key !== ada.apiKey) return found as { key: string }
    }
  })()
  const shown = page.locator('.key code')
  if (first === 'the event') {
    // The page has the new key from the stream, and nothing says yet that it was made here.
    await box.getByText(key.slice(3, 11)).first().waitFor()
    expect(await page.getByText('This is the new key.').count()).toBe(0)
    shownFirst()
  } else {
    await shown.filter({ hasText: key }).waitFor()
    const again = page.waitForResponse((response) => new URL(response.url()).pathname === '/v1/api-keys/')
    shownFirst()
    await again
  }
  await page.getByText('This is the new key.').waitFor()
  await shown.filter({ hasText: key }).waitFor()
  expect(troubles).toEqual([])
  await context.close()
})
