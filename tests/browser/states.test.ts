// Each page in each of its states: while it is read, where it could not be read, read again, and with nothing to show.
// No call that fails is passed over in silence, and none takes more of a page with it than what is made of it.
import type { Browser, Page, Route as Request } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { flaws } from './layout'
import { addressOf, POLICY, routes } from './routes'
import { type Account, Server } from './server'

let server: Server
let browser: Browser
let full: Account
let empty: Account
let run: string
let step: string

beforeAll(async () => {
  server = await Server.start('--webhook-private')
  browser = await launch()
  full = await server.account('full@example.com')
  empty = await server.account('empty@example.com')
  const agent = server.agent(full)
  run = (await agent.start('ana', { task: 'Short', tags: { agent: 'support' } })).id
  step = (await agent.step(run, 1, { model: 'gpt-4o', input_data: { n: 1 } }, { prompt: 500, completion: 100 })).id
  await agent.step(run, 2, { tool_name: 'search' })
  await server.reviews(full, 'ana', 'Short')
  const endpoint = { kind: 'webhook', url: 'http://127.0.0.1:9/', label: 'on-call', events: ['*'] }
  await server.call(full.token, 'POST', '/v1/endpoints/', endpoint)
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

/** What a program would say to a programmer. */
const RAW = /undefined|NaN|\[object|TypeError|Failed to fetch|NetworkError|net::|Internal Server Error|\bnull\b/
/** What a page reads of the server; the stream is read by a worker, which no route holds back. */
const READS = /\/v1\/(?!events)|\/openapi\.json|\/clients\/$/
/** What all pages share is read once, when the first of them opens. */
const SHARED = /^\/v1\/(workspace\/|usage\/|usage\/now|server)$/

const inside = routes.filter(({ access }) => access !== 'outside').map(({ path }) => path)
/** Parts of pages that open with their address. */
const parts = ['/runs?status=RUNNING&sort=last_call', '/runs/{id}?step={step}', '/usage?by=key', '/limits?rule=daily-budget', `/limits?policy=${POLICY}`]
const address = (path: string) => addressOf(path, run, 'ana').replace('{step}', step)

/** Holds back, refuses or lets through what a page asks for. */
class Answers {
  mode: 'none' | 'all' | 'unreachable' | { failing: string } = 'all'
  asked = new Set<string>()
  #held: Request[] = []
  #open = 0

  async watch(page: Page) {
    await page.route(READS, (request) => this.#answer(request))
    page.on('request', (request) => READS.test(request.url()) && this.#open++)
    page.on('requestfinished', (request) => READS.test(request.url()) && this.#open--)
    page.on('requestfailed', (request) => READS.test(request.url()) && this.#open--)
  }

  /** Lets all that was held back have what the mode says now. */
  let(mode: Answers['mode']) {
    this.mode = mode
    for (const request of this.#held.splice(0)) this.#answer(request)
  }

  get idle(): boolean {
    return this.#open === 0
  }

  #answer(route: Request) {
    const request = route.request()
    const key = keyOf(request.url())
    if (request.method() === 'GET') this.asked.add(key)
    if (this.mode === 'none') return void this.#held.push(route)
    if (this.mode === 'all') return void route.continue()
    if (this.mode === 'unreachable') return void route.abort('connectionrefused')
    if (this.mode.failing !== key) return void route.continue()
    void route.fulfill({ status: 500, json: { detail: 'Internal Server Error' } })
  }
}

/** A call by what it asks for, whenever it does. */
function keyOf(url: string): string {
  const { pathname, searchParams } = new URL(url)
  const names = [...searchParams].filter(([name]) => !/since|until/.test(name)).map(([name, value]) => `${name}=${value}`)
  return pathname + (names.length ? '?' + names.sort().join('&') : '')
}

async function looksWhole(page: Page, state: string) {
  // Of ten thousand elements, with examples of code, and walked by widths.test.ts.
  if (new URL(page.url()).pathname === '/docs') return
  // Lines that stand for what is coming appear after 100 ms.
  await page.evaluate(() => Promise.allSettled(document.getAnimations().map(({ finished }) => finished)))
  expect(await page.locator('body').innerText(), state).not.toMatch(RAW)
  expect(await page.evaluate(flaws), state).toEqual([])
}

const again = (page: Page) => page.getByRole('button', { name: 'Try again' })
const headings = async (page: Page) => (await page.locator('main :is(h2, h3)').allTextContents()).map((text) => text.trim().replace(/\s+/g, ' '))

/** Presses each “Try again” until none is left. */
async function tryAgain(page: Page) {
  await again(page).first().waitFor()
  for (let left = await again(page).count(); left > 0; left = await again(page).count()) {
    await again(page).first().click()
    await page.waitForFunction((count) => {
      const buttons = [...document.querySelectorAll('button')].filter(({ innerText }) => innerText === 'Try again')
      return buttons.length < count || buttons.every((button) => button.getAttribute('aria-busy') !== 'true')
    }, left)
  }
}

/** The headings that a page lacks, by the call that fails: their parts are made of what it answers. */
const LOSSES: Record<string, Record<string, RegExp>> = {
  '/welcome': {
    '/v1/api-keys/': /^Your API key$|^[123] /,
    '/clients/': /^[123] /,
    '/v1/runs/?limit=1': /^What to do next$/,
  },
  '/runs/{id}': { '/v1/runs/{run}/outline?limit=200': /^Steps$|Completed$/, '/v1/runs/{run}?steps_limit=0': /^Steps$|^Metadata|Completed$/ },
  '/reviews': {
    '/v1/reviews/?limit=200&status=pending': /^Waiting|^refund |^Why a person|^What the run did/,
    '/v1/runs/{run}/lines?steps={step}': /^What the run did/,
    '/v1/runs/{run}/outline?limit=5000': /^What the run did/,
    '/v1/runs/{run}?steps_limit=0': /^What the run did/,
  },
  '/usage': { '/v1/usage/by?by_day=true&by_hour=false&group=model&limit=12': /^Spend by day$/, '/v1/usage/by?by_day=true&by_hour=false&group=key&limit=12': /^Spend by day$/ },
  '/users/{user}': { '/v1/usage/of-user?user_id=ana': /^Spend by day$|^Limits$|^By / },
  '/prices': { '/v1/model-pricing/?include_inactive=true': /^Published prices/ },
  '/limits': { '/v1/policies/': /^large-refund$|^refunds-a-day$|^Ready-made policies$|^What would it have done/ },
  '/policies/{id}': { '/v1/policies/': /./ },
  '/api-keys': { '/v1/api-keys/': /^Regenerate the key$/ },
  '/notifications': { '/v1/endpoints/': /^Deliveries/ },
  '/plan': { '/v1/billing/': /./ },
  '/docs': { '/openapi.json': /./ },
}

test.each([...inside, ...parts])('%s says that it is being read, that it could not be, and reads again', async (path) => {
  const { page, context } = await visit(browser, server, full)
  const answers = new Answers()
  await answers.watch(page)
  answers.let('none')
  await page.goto(address(path))
  await page.locator('h1').waitFor()
  await page.locator('main .skeleton').first().waitFor()
  await looksWhole(page, 'being read')

  answers.let('unreachable')
  await again(page).first().waitFor()
  await page.locator('.skeleton').first().waitFor({ state: 'detached' })
  await looksWhole(page, 'failed')
  await page.setViewportSize({ width: 390, height: 900 })
  await looksWhole(page, 'failed, on a phone')
  // Whatever is lost, agents can be stopped.
  await page.getByRole('button', { name: /^Stop all/ }).first().waitFor()
  await page.setViewportSize({ width: 1280, height: 900 })

  answers.let('all')
  await tryAgain(page)
  await settled(page)
  expect(await page.getByRole('alert').count()).toBe(0)

  // Each of its own calls in turn; from a page that asks for nothing, as one comes from another page.
  await expect.poll(() => answers.idle).toBe(true)
  const whole = await headings(page)
  const own = [...answers.asked].filter((key) => !SHARED.test(key))
  expect(own.length).toBeGreaterThan(0)
  const losses = LOSSES[path.replace(/\?.*/, '')] ?? {}
  const silent: string[] = []
  const lost: Record<string, string[]> = {}
  for (const key of own) {
    await go(page, '/no/such/page')
    await page.getByText('There is no such page').waitFor()
    answers.mode = { failing: key }
    await go(page, address(path))
    const told = await again(page).first().waitFor({ timeout: 5_000 }).then(() => true, () => false)
    if (!told) {
      silent.push(key)
      continue
    }
    await settled(page)
    const left = new Set(await headings(page))
    const call = key.replace(/steps=.*/, 'steps={step}').replace(/[0-9a-f-]{36}/, '{run}')
    const gone = whole.filter((heading) => !left.has(heading) && !losses[call]?.test(heading))
    if (gone.length) lost[call] = gone
    answers.mode = 'all'
    await tryAgain(page)
    await settled(page)
    await expect.poll(() => headings(page)).toEqual(whole)
  }
  expect(silent).toEqual([])
  expect(lost).toEqual({})
  await context.close()
})

/** Follows a link. */
function go(page: Page, to: string) {
  return page.evaluate((href) => {
    const link = document.createElement('a')
    link.href = href
    document.body.append(link)
    link.click()
    link.remove()
  }, to)
}

test.each(inside.filter((path) => !path.includes('{')))('%s says what would be there, where there is nothing yet', async (path) => {
  const { page, context, troubles } = await visit(browser, server, empty)
  await page.goto(path)
  await settled(page)
  await looksWhole(page, 'empty')
  await page.setViewportSize({ width: 390, height: 900 })
  await looksWhole(page, 'empty, on a phone')
  expect(troubles).toEqual([])
  await context.close()
})

test.each([
  ['/runs/01a00000-0000-7000-8000-000000000000', 'There is no such run.'],
  ['/reviews?review=01a00000-0000-7000-8000-000000000000', 'There is no such review.'],
  [`/policies/no-${POLICY}`, 'There is no such policy.'],
])('%s is not there, and the page says so', async (path, words) => {
  const { page, context } = await visit(browser, server, full)
  await page.goto(path)
  await page.getByText(words).waitFor()
  await settled(page)
  await looksWhole(page, 'not there')
  expect(await again(page).count()).toBe(0)
  await context.close()
})
