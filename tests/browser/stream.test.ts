// One event stream a browser, however many windows: browsers open six connections to a server for all of them together.
import { chromium, type Browser, type Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { routes } from './routes'
import { type Account, Server, until } from './server'

let server: Server
let browser: Browser
let ada: Account
let run: string

beforeAll(async () => {
  server = await Server.start()
  browser = await launch()
  ada = await server.account('ada@example.com')
  await server.call(ada.token, 'PATCH', '/v1/workspace/', { max_concurrent_runs: 100 })
  run = (await server.agent(ada).start('user', { task: 'Watched' })).id
  await server.agent(ada).step(run, 1)
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

const live = (page: Page, name: string) => page.getByText(name).first().waitFor()

test('nine windows all load, are all told, and share one stream', async () => {
  const { page, context, troubles } = await visit(browser, server, ada)
  const pages = [page]
  await page.goto('/overview')
  for (let n = 2; n <= 9; n++) {
    pages.push(await context.newPage())
    await pages.at(-1)!.goto('/runs')
  }
  for (const each of pages) await settled(each)
  await server.agent(ada).start('user', { task: 'Told to all' })
  for (const each of pages) await live(each, 'Told to all')
  // The one that opened it goes; the others hear on.
  await pages.shift()!.close()
  await server.agent(ada).start('user', { task: 'Told to the rest' })
  for (const each of pages) await live(each, 'Told to the rest')
  expect(troubles).toEqual([])
  await context.close()
})

test('a page in the back/forward cache holds no stream, and is live again when one comes back', async () => {
  const own = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--no-sandbox', '--disable-gpu'],
    // Playwright turns this cache off.
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
  })
  try {
    const { page, context } = await visit(own, server, ada)
    const other = await Server.start()
    try {
      // Seven addresses one after another in one tab, each another document.
      for (const path of ['/overview', '/runs', '/users', '/prices', '/limits', '/audit', '/account']) {
        await page.goto(path)
        await settled(page)
        await page.goto(other.url + '/health')
      }
      // A page that comes out of the cache is not loaded, so there is nothing that goBack would wait for.
      await page.evaluate(() => history.back())
      await page.waitForFunction(() => location.pathname === '/account')
      await settled(page)
      await page.getByRole('link', { name: 'Overview', exact: true }).first().click()
      await settled(page)
      await server.agent(ada).start('user', { task: 'After the way back' })
      await live(page, 'After the way back')
    } finally {
      await other.close()
    }
    await context.close()
  } finally {
    await own.close()
  }
})

test('without such workers a window opens a stream of its own', async () => {
  const { page, context } = await visit(browser, server, ada)
  await context.addInitScript(() => delete (window as { SharedWorker?: unknown }).SharedWorker)
  const opened = page.waitForRequest('**/v1/events')
  await page.goto('/overview')
  await opened
  await settled(page)
  await server.agent(ada).start('user', { task: 'Without a worker' })
  await live(page, 'Without a worker')
  await context.close()
})

const inside = routes.filter(({ access }) => access === 'inside').map(({ path }) => path)

test.each(inside)('%s asks each call once when it opens', async (path) => {
  const { page, context } = await visit(browser, server, ada)
  const asked: string[] = []
  page.on('request', (request) => {
    if (request.url().startsWith(server.url + '/v1/')) asked.push(request.method() + ' ' + request.url().slice(server.url.length))
  })
  await page.goto(path.replace('{id}', run))
  await settled(page)
  // Told of a change, the stream has been open for all that comes before it.
  const told = page.waitForRequest('**/v1/workspace/')
  const before = [...asked]
  await until('the page to be told', async () => {
    await server.call(ada.token, 'PATCH', '/v1/workspace/', { name: `Workspace ${Math.random()}` })
    return Promise.race([told.then(() => true), new Promise<boolean>((done) => setTimeout(() => done(false), 1000))])
  })
  expect(before.length).toBeGreaterThan(1)
  expect(before.filter((call, i) => before.indexOf(call) !== i)).toEqual([])
  const later = asked.slice(before.length).filter((call) => !call.includes('/v1/workspace/') && before.includes(call))
  expect(later.filter((call) => !call.includes('/v1/audit'))).toEqual([])
  await context.close()
})
