// Where an account is signed in, and how each of its sessions ends on the server.
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { type Account, PASSWORD, Server } from './server'

let server: Server
let browser: Browser

beforeAll(async () => {
  server = await Server.start()
  browser = await launch()
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

async function signIn(ada: Account, agent: string): Promise<string> {
  const response = await fetch(server.url + '/v1/auth/login', {
    method: 'POST',
    headers: { 'User-Agent': agent },
    body: JSON.stringify({ email: ada.email, password: PASSWORD }),
  })
  return ((await response.json()) as { access_token: string }).access_token
}

const meets = async (token: string) => (await fetch(server.url + '/v1/auth/me', { headers: { Authorization: `Bearer ${token}` } })).status

test('sessions are listed by browser, and end one by one, or all but this one', async () => {
  const ada = await server.account('ada@example.com')
  const phone = await signIn(ada, 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Version/18.6 Safari/604.1')
  const strange = await signIn(ada, '<img src=x onerror="document.title=\'owned\'">')
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/account')
  await settled(page)
  const list = page.getByRole('region', { name: 'Sessions' })
  const rows = list.locator('tbody tr')
  await rows.nth(2).waitFor()
  expect(await rows.filter({ hasText: 'this one' }).count()).toBe(1)
  await list.getByText('<img src=x').waitFor()
  // Another tab of the same browser goes on with what this one is given.
  const tab = await context.newPage()
  await tab.goto('/runs')
  await settled(tab)

  await list.getByRole('button', { name: 'Sign out Safari 18 on iPhone' }).click()
  await rows.filter({ hasText: 'iPhone' }).waitFor({ state: 'detached' })
  expect([await meets(phone), await meets(strange), await meets(ada.token)]).toEqual([401, 200, 200])

  await page.getByRole('button', { name: 'Sign out everywhere else' }).click()
  await rows.filter({ hasText: '<img' }).waitFor({ state: 'detached' })
  expect(await rows.count()).toBe(1)
  expect([await meets(strange), await meets(ada.token)]).toEqual([401, 401])
  await page.reload()
  await settled(page)
  await rows.filter({ hasText: 'this one' }).waitFor()
  await tab.getByRole('link', { name: 'Users' }).first().click()
  await tab.waitForURL('**/users')
  await settled(tab)
  expect(await tab.getByRole('alert').count()).toBe(0)

  await page.getByRole('button', { name: 'Sign out everywhere', exact: true }).click()
  await page.getByRole('heading', { name: 'Sign in' }).waitFor()
  expect(await page.title()).not.toBe('owned')
  expect(troubles).toEqual([])
  await context.close()
})

test('a slow answer does not sign out whoever signs out the others', async () => {
  const eve = await server.account('eve@example.com')
  const { page, context } = await visit(browser, server, eve)
  const tab = await context.newPage()
  await tab.goto('/runs')
  await settled(tab)
  await page.goto('/account')
  await settled(page)
  // The server has ended the token, no page knows it yet, and each is refused with it meanwhile.
  let release = () => {}
  const refused = new Promise<void>((done) => (release = done))
  let ended = () => {}
  const onServer = new Promise<void>((done) => (ended = done))
  await page.route('**/v1/auth/logout-others', async (route) => {
    const response = await route.fetch()
    ended()
    await refused
    await route.fulfill({ response })
  })
  await page.getByRole('button', { name: 'Sign out everywhere else' }).click()
  await onServer
  for (const each of [page, tab]) {
    const answer = each.waitForResponse((response) => response.url().includes('/v1/users') && response.status() === 401)
    await each.getByRole('link', { name: 'Users' }).first().click()
    await answer
  }
  release()
  await page.waitForFunction((old) => localStorage.getItem('pikarc.token') !== old, eve.token)
  for (const each of [page, tab]) {
    expect(new URL(each.url()).pathname).toBe('/users')
    await each.getByRole('heading', { name: 'Users' }).first().waitFor()
  }
  await tab.getByRole('link', { name: 'Runs' }).first().click()
  await tab.getByRole('heading', { name: 'Runs' }).first().waitFor()
  await context.close()
})

test.each([
  ['Sign out everywhere else', async () => {}],
  [
    'Change password',
    async (page: Page) => {
      await page.getByLabel('Current password').fill(PASSWORD)
      await page.getByLabel('New password').fill('a better horse battery')
    },
  ],
])('after “%s” the stream goes on with the new token, and nothing asks for it with the old one', async (button, prepare) => {
  const name = button.replaceAll(' ', '-').toLowerCase()
  const account = await server.account(`${name}@example.com`)
  const { page, context, troubles } = await visit(browser, server, account)
  // A stream of the page's own: a worker's calls are not seen from here, nor can its clock be set.
  await context.addInitScript(() => delete (window as { SharedWorker?: unknown }).SharedWorker)
  await page.clock.install()
  const streams: { token: string; status: number }[] = []
  page.on('response', (response) => {
    if (!response.url().endsWith('/v1/events')) return
    const token = response.request().headers().authorization!.replace('Bearer ', '')
    streams.push({ token, status: response.status() })
  })
  await page.goto('/account')
  await settled(page)
  await prepare(page)
  await expect.poll(() => streams).toEqual([{ token: account.token, status: 200 }])
  await page.getByRole('button', { name: button, exact: true }).click()
  await page.waitForFunction((old) => localStorage.getItem('pikarc.token') !== old, account.token)
  const token = await page.evaluate(() => localStorage.getItem('pikarc.token')!)
  await expect.poll(() => streams.at(-1)).toEqual({ token, status: 200 })
  // Whoever still means to try again with the old one does so now.
  await page.clock.runFor(20_000)
  expect(await page.evaluate(async () => (await fetch('/health')).status)).toBe(200)
  expect(streams).toEqual([
    { token: account.token, status: 200 },
    { token, status: 200 },
  ])
  await server.agent(account).start('user', { task: 'Told after all' })
  await page.getByRole('link', { name: 'Runs' }).first().click()
  await page.getByText('Told after all').first().waitFor()
  expect(new URL(page.url()).pathname).toBe('/runs')
  expect(troubles).toEqual([])
  await context.close()
})
