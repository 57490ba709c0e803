// One event stream a browser, however many windows: browsers open six connections to a server for all of them together.
import { once } from 'node:events'
import http, { createServer } from 'node:http'
import { chromium, type Browser, type Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { addressOf, routes } from './routes'
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

test.each([
  ['are refused', () => {
    window.SharedWorker = class {
      constructor() {
        throw new DOMException('Access is denied', 'SecurityError')
      }
    } as unknown as typeof SharedWorker
  }],
  ['cannot read their code', () => {
    const Real = window.SharedWorker
    window.SharedWorker = class extends Real {
      constructor() {
        super('/no-such-worker.js')
      }
    } as typeof SharedWorker
  }],
])('where such workers %s a window opens a stream of its own', async (_, prepare) => {
  const { page, context } = await visit(browser, server, ada)
  await context.addInitScript(prepare)
  const opened = page.waitForRequest('**/v1/events')
  await page.goto('/overview')
  await opened
  await settled(page)
  await server.agent(ada).start('user', { task: 'Alone' })
  await live(page, 'Alone')
  await context.close()
})

/** Passes everything on, but keeps streams until it is told to let them through. */
async function holdingBack(to: Server): Promise<{ url: string; release: () => void; close: () => void }> {
  const held: (() => void)[] = []
  let open = false
  const proxy = createServer((request, response) => {
    const pass = () => {
      const { method, headers } = request
      const onwards = http.request(to.url + request.url, { method, headers }, (answer) => {
        response.writeHead(answer.statusCode!, answer.headers)
        answer.pipe(response)
      })
      // A worker may ask once more when the server has gone.
      onwards.on('error', () => response.destroy())
      request.pipe(onwards)
    }
    if (request.url === '/v1/events' && !open) held.push(pass)
    else pass()
  }).listen(0, 'localhost')
  await once(proxy, 'listening')
  const { port } = proxy.address() as { port: number }
  return {
    url: `http://localhost:${port}`,
    release: () => {
      open = true
      for (const pass of held.splice(0)) pass()
    },
    close: () => {
      proxy.closeAllConnections()
      proxy.close()
    },
  }
}

test.each(['/overview', '/runs', '/runs/{id}'])('a stream that is held back delays not %s, which lacks nothing once it opens', async (path) => {
  const proxy = await holdingBack(server)
  try {
    const { id } = await server.agent(ada).start('user', { task: 'Read before the stream' })
    const { page, context, troubles } = await visit(browser, { url: proxy.url } as Server, ada)
    await page.goto(path.replace('{id}', id))
    await settled(page)
    // Nobody tells the page of this: only that something was, when the stream opens.
    if (path === '/runs/{id}') await server.agent(ada).step(id, 1, { model: 'a-model-of-late' })
    else await server.agent(ada).start('user', { task: `Started unheard, ${path}` })
    proxy.release()
    await live(page, path === '/runs/{id}' ? 'a-model-of-late' : `Started unheard, ${path}`)
    expect(troubles).toEqual([])
    await context.close()
  } finally {
    proxy.close()
  }
})

test('a page whose stream opens late reads nothing again where nothing has happened', async () => {
  const quiet = await Server.start()
  const proxy = await holdingBack(quiet)
  try {
    const eve = await quiet.account('eve@example.com')
    const { page, context } = await visit(browser, { url: proxy.url } as Server, eve)
    const asked: string[] = []
    page.on('request', (request) => asked.push(request.url()))
    await page.goto('/overview')
    await settled(page)
    const before = asked.length
    proxy.release()
    // What the stream tells, it tells after its first event.
    const told = page.waitForRequest('**/v1/workspace/')
    await until('the page to be told', async () => {
      await quiet.call(eve.token, 'PATCH', '/v1/workspace/', { name: `Workspace ${Math.random()}` })
      return Promise.race([told.then(() => true), new Promise<boolean>((done) => setTimeout(() => done(false), 500))])
    })
    expect(asked.slice(before).filter((url) => /\/v1\/usage\/(daily|$)/.test(url))).toEqual([])
    await context.close()
  } finally {
    proxy.close()
    await quiet.close()
  }
})

const inside = routes.filter(({ access }) => access === 'inside').map(({ path }) => path)

test.each(inside)('%s asks each call once when it opens', async (path) => {
  const { page: first, context } = await visit(browser, server, ada)
  // A window that is open already has the stream: opening one takes longer than pages wait where the machine is busy.
  await first.goto('/runs')
  await settled(first)
  await server.agent(ada).start('user', { task: `Opened before ${path}` })
  await live(first, `Opened before ${path}`)
  const page = await context.newPage()
  const asked: string[] = []
  page.on('request', (request) => {
    if (request.url().startsWith(server.url + '/v1/')) asked.push(request.method() + ' ' + request.url().slice(server.url.length))
  })
  await page.goto(addressOf(path, run, 'user'))
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
  // The audit log has the change, and a workspace's change may be one of its budget.
  expect(later.filter((call) => !call.includes('/v1/audit') && !call.includes('/v1/usage/now'))).toEqual([])
  await context.close()
})
