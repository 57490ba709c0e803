// Steps that wait for a person: decided by keys and on a phone, live, by two at once, and by nobody.
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, shown, violations, visit } from './browser'
import { type Account, Agent, Server, until } from './server'
import { withinLimit } from './tasks'

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

type Asked = { run: string; step: string; review: string }

class Desk {
  constructor(
    readonly account: Account,
    readonly agent: Agent,
  ) {}

  static async open(): Promise<Desk> {
    const account = await server.account(`reviewer-${++made}@example.com`)
    const set = { reviews: 'all_clients', max_concurrent_runs: 100 }
    await server.call(account.token, 'PATCH', '/v1/workspace/', set)
    const desk = new Desk(account, server.agent(account))
    await desk.policy('large-refund', 3600)
    return desk
  }

  policy(name: string, expires_seconds: number) {
    return server.call(this.account.token, 'PUT', `/v1/policies/${name}`, {
      effect: 'review',
      match: { tools: [name === 'large-refund' ? 'refund*' : name] },
      when: name === 'large-refund' ? 'usd(input.amount) > usd(100)' : undefined,
      message: 'Refunds above $100 need a person.',
      review: { expires_seconds },
    })
  }

  /** An agent that asks, and then waits as the published client does. */
  async asks(input: object, tool_name = 'refund', user = 'acme/maria'): Promise<Asked> {
    const run = (await this.agent.start(user, { task: 'Refund the double charges' })).id
    await this.agent.step(run, 1, { tool_name: 'search', input_data: { q: 'double charges' } }, { output: '4 orders' })
    const answer = await this.agent.ask(run, 2, { tool_name, input_data: input })
    return { run, step: answer.id, review: (answer as unknown as { review_id: string }).review_id }
  }

  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  poll(review: string): Promise<any> {
    return server.call(this.account.apiKey, 'GET', `/v1/reviews/${review}`)
  }

  async visit(path = '/reviews', options = {}) {
    const seat = await visit(browser, server, this.account, options)
    await seat.page.goto(path)
    await settled(seat.page)
    return seat
  }
}

/** Waits until the review of a text is drawn, so that keys may decide it. */
const seen = (page: Page, text: string) =>
  page.locator('article[data-seen]', { has: page.getByRole('heading', { name: text, exact: true }) }).waitFor()
const rows = (page: Page) => page.getByRole('navigation', { name: 'Waiting' }).locator('li')
const approve = (page: Page) => page.getByRole('form', { name: 'Decide' }).getByRole('button', { name: /^Approve/ })
const outcome = (page: Page) => page.locator('article [role="status"]')
const press = (page: Page, ...keys: string[]) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve())

test('by keys: one is approved, one denied with the words that its agent hears, and each agent is told', async () => {
  const desk = await Desk.open()
  const first = await desk.asks({ amount: 180, currency: 'USD' })
  const second = await desk.asks({ amount: 640, currency: 'EUR' })
  const { page, context, troubles } = await desk.visit('/overview')
  await page.getByText('2 steps wait for a person.').waitFor()
  await page.waitForFunction(() => document.title.startsWith('(2) to review'))
  await press(page, 'g', 'v')
  await seen(page, 'refund 180 USD')
  await page.getByText('Refund the double charges').first().waitFor()
  await page.getByText('the policy looks at it').waitFor()
  expect(await violations(page)).toEqual([])

  await press(page, 'a')
  await outcome(page).getByText('The agent goes on').waitFor()
  expect(await desk.poll(first.review)).toMatchObject({ status: 'approved', decided_by: { account: desk.account.email } })
  // The same key once more decides nothing: not this one again, and not the next before somebody goes to it.
  await press(page, 'a', 'a')
  expect((await desk.poll(second.review)).status).toBe('pending')

  await press(page, 'j')
  await seen(page, 'refund 640 EUR')
  await press(page, 'd')
  const note = page.getByLabel('Note, for the audit log')
  await page.getByText('Say why: the agent hears it').waitFor()
  await page.keyboard.type('a card payment goes to finance')
  expect((await desk.poll(second.review)).status).toBe('pending')
  await note.press('Control+Enter')
  await outcome(page).getByText('Denied. The agent hears why.').waitFor()
  await withinLimit(page, 2)
  expect(await desk.poll(second.review)).toMatchObject({ status: 'denied', resolution: 'denied', note: 'a card payment goes to finance' })
  await page.waitForFunction(() => !document.title.includes('to review'))

  const decided = page.getByRole('region', { name: 'Decided' }).locator('li')
  await decided.nth(1).waitFor()
  expect(await decided.allTextContents()).toEqual([
    expect.stringMatching(/refund 640 EUR.*Denied by a person.*reviewer.*after/),
    expect.stringMatching(/refund 180 USD.*Approved.*reviewer.*after/),
  ])
  await page.getByRole('button', { name: 'Not approved', exact: true }).click()
  await decided.nth(1).waitFor({ state: 'detached' })
  expect(await decided.textContent()).toContain('refund 640 EUR')
  expect(troubles).toEqual([])
  await context.close()
})

test('a key that is held down, or typed into a field or a dialog, decides nothing', async () => {
  const desk = await Desk.open()
  const one = await desk.asks({ amount: 180 })
  const { page, context } = await desk.visit()
  await seen(page, 'refund 180')
  const held = (key: string) =>
    page.evaluate((key) => void window.dispatchEvent(new KeyboardEvent('keydown', { key, repeat: true, bubbles: true })), key)
  for (const key of ['g', 'a', 'd', 'x']) await held(key)
  await page.getByLabel('Note, for the audit log').focus()
  await page.keyboard.type('add a day')
  await press(page, 'Escape', '?')
  await page.getByRole('dialog', { name: 'Keys' }).waitFor()
  await press(page, 'a', 'd')
  await press(page, 'Escape')
  await press(page, 'Control+a')
  expect(await page.getByLabel('This step only').isChecked()).toBe(true)
  expect(await rows(page).getByRole('checkbox').isChecked()).toBe(false)
  // What was waited for is the next word of the server: nothing was on its way.
  await desk.asks({ amount: 500 })
  await rows(page).nth(1).waitFor()
  expect((await desk.poll(one.review)).status).toBe('pending')
  await context.close()
})

test('live: new ones come at the end, and what others decide stays in its place while somebody is at the list', async () => {
  const desk = await Desk.open()
  const first = await desk.asks({ amount: 101 })
  await desk.asks({ amount: 102 })
  const { page, context, troubles } = await desk.visit()
  await seen(page, 'refund 101')
  await rows(page).nth(1).hover()
  const place = () => rows(page).nth(1).boundingBox()
  const before = await place()
  await desk.asks({ amount: 103 })
  await rows(page).nth(2).waitFor()
  expect(await rows(page).nth(2).textContent()).toContain('refund 103')
  await server.call(desk.account.token, 'POST', `/v1/reviews/${first.review}/deny`, { note: 'not today' })
  await outcome(page).getByText('Denied by a person').waitFor()
  await outcome(page).getByText('not today').waitFor()
  expect(await place()).toEqual(before)
  expect(await rows(page).first().textContent()).toContain('Denied by a person')
  await page.waitForFunction(() => document.title.startsWith('(2) to review'))
  // Elsewhere it leaves, once something else is chosen.
  await press(page, 'j')
  await seen(page, 'refund 102')
  await page.getByRole('heading', { name: 'Decided' }).hover()
  await page.evaluate(() => (document.activeElement as HTMLElement).blur())
  await desk.asks({ amount: 104 })
  await rows(page).filter({ hasText: 'refund 104' }).waitFor()
  expect(await rows(page).first().textContent()).toContain('102')
  expect(troubles).toEqual([])
  await context.close()
})

test('two reviewers at once: the second learns who was first, and nothing is an error', async () => {
  const desk = await Desk.open()
  const one = await desk.asks({ amount: 180 })
  const { page, context, troubles } = await desk.visit()
  await seen(page, 'refund 180')
  // What the first has done does not come to the second in time.
  await page.route('**/v1/reviews/?*', () => {})
  await server.call(desk.account.token, 'POST', `/v1/reviews/${one.review}/deny`, { note: 'I was first' })
  await approve(page).click()
  await outcome(page).getByText(`${desk.account.email} was first, and denied it.`).waitFor()
  expect((await desk.poll(one.review)).resolution).toBe('denied')
  expect(troubles).toEqual([])
  await context.close()
})

test('what nobody waits for any more can be approved by nobody, and says so', async () => {
  const desk = await Desk.open()
  await desk.policy('deploy', 5)
  const late = await desk.asks({ to: 'production' }, 'deploy')
  const { page, context, troubles } = await desk.visit()
  await seen(page, 'deploy to production')
  await page.route('**/v1/reviews/?*', () => {})
  await until('the review to expire', async () => (await desk.poll(late.review)).status === 'denied')
  await approve(page).click()
  await outcome(page).getByText('Nobody waits for it any more').waitFor()
  expect((await desk.poll(late.review)).resolution).toBe('expired')

  // Work that did not wait is told in alarming words.
  const bold = await desk.asks({ amount: 999 })
  await desk.agent.report(bold.run, bold.step)
  await page.unroute('**/v1/reviews/?*')
  await page.goto(`/reviews?review=${bold.review}`)
  await outcome(page).getByText('Ran without an answer').waitFor()
  expect(await violations(page)).toEqual([])
  expect(troubles).toEqual([])
  await context.close()
})

test('several are decided together, after a dialog that says how many', async () => {
  const desk = await Desk.open()
  const asked = [await desk.asks({ amount: 101 }), await desk.asks({ amount: 102 }), await desk.asks({ amount: 103 })]
  const { page, context, troubles } = await desk.visit()
  await seen(page, 'refund 101')
  await press(page, 'x', 'j')
  await seen(page, 'refund 102')
  await press(page, 'x', 'a')
  const dialog = page.getByRole('dialog', { name: 'Approve 2 steps?' })
  await dialog.waitFor()
  expect(await page.evaluate(() => document.activeElement?.textContent?.trim())).toBe('Cancel')
  await press(page, 'a', 'Escape')
  await dialog.waitFor({ state: 'hidden' })
  await press(page, 'd')
  const deny = page.getByRole('dialog', { name: 'Deny 2 steps?' })
  await deny.getByRole('button', { name: 'Deny 2 steps' }).click()
  await deny.getByText('Say why: the agents hear it.').waitFor()
  await deny.getByLabel('What the agents hear').fill('not on a Sunday')
  await deny.getByRole('button', { name: 'Deny 2 steps' }).click()
  await page.getByText('2 steps denied.').waitFor()
  const states = await Promise.all(asked.map(({ review }) => desk.poll(review)))
  expect(states.map(({ status, note }) => [status, note])).toEqual([
    ['denied', 'not on a Sunday'],
    ['denied', 'not on a Sunday'],
    ['pending', null],
  ])
  expect(troubles).toEqual([])
  await context.close()
})

test('an approval may allow more of the same, which is listed, used, and taken back', async () => {
  const desk = await Desk.open()
  await desk.asks({ amount: 180 })
  const { page, context, troubles } = await desk.visit()
  await seen(page, 'refund 180')
  await press(page, 'g', 'g')
  await page.getByLabel('More times').fill('2')
  await page.getByLabel('More times').blur()
  await page.getByRole('button', { name: 'Approve, and 2 more' }).waitFor()
  await press(page, 'a')
  await outcome(page).getByText('The agent goes on').waitFor()
  const grants = page.getByRole('region', { name: 'Grants' })
  await grants.getByText('0 of 2 used').waitFor()
  expect((await desk.asks({ amount: 999 })).review).toBeNull()
  await grants.getByText('1 of 2 used').waitFor()
  await grants.getByRole('button', { name: /^Revoke/ }).click()
  await page.getByRole('dialog', { name: 'Revoke this grant?' }).getByRole('button', { name: 'Revoke grant' }).click()
  await grants.getByText('None.').waitFor()
  expect((await desk.asks({ amount: 999 })).review).not.toBeNull()
  expect(troubles).toEqual([])
  await context.close()
})

test('on a phone at night: the link of the message, and one press', async () => {
  const desk = await Desk.open()
  const one = await desk.asks({ amount: 180, currency: 'USD', note: 'x'.repeat(5000) })
  const phone = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true }
  const { page, context, troubles } = await desk.visit('/reviews', phone)
  await seen(page, 'refund 180 USD')
  const bar = page.getByRole('navigation', { name: 'Main pages' }).getByRole('link', { name: 'Reviews' })
  expect(await bar.last().textContent()).toContain('1')
  expect(await violations(page)).toEqual([])
  const box = (await approve(page).boundingBox())!
  expect(box.y + box.height).toBeLessThan(844)
  expect(box.height).toBeGreaterThanOrEqual(44)
  await approve(page).tap()
  await outcome(page).getByText('The agent goes on').waitFor()
  await withinLimit(page)
  expect((await desk.poll(one.review)).status).toBe('approved')
  expect(troubles).toEqual([])
  await context.close()
})

test('texts of strangers are shown as text, long ones cut, and no page breaks', async () => {
  const desk = await Desk.open()
  const text = '<img src=x onerror="document.title=\'owned\'">\u202Egnp.exe'
  await desk.asks({ amount: 180, [text]: text, long: 'w'.repeat(20_000), nested: { [text]: [{ a: text }] } }, 'refund' + text, text)
  const { page, context, troubles } = await desk.visit()
  await page.locator('article[data-seen]').waitFor()
  await page.getByText(shown(text).slice(0, 40)).first().waitFor()
  const main = page.locator('main')
  expect(await main.locator('img').count()).toBe(0)
  expect((await main.textContent())!.length).toBeLessThan(8000)
  await page.getByRole('button', { name: 'Show all of long' }).click()
  await page.waitForFunction(() => document.querySelector('main')!.textContent.length > 20_000)
  for (const width of [320, 390, 768, 1050, 1440]) {
    await page.setViewportSize({ width, height: 900 })
    expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), `${width} px`).toBeLessThanOrEqual(0)
  }
  await page.getByRole('button', { name: 'JSON' }).click()
  expect(await main.textContent()).not.toMatch(/[\u202A-\u202E\u2066-\u2069]/)
  expect(await page.title()).not.toBe('owned')
  expect(troubles).toEqual([])
  await context.close()
})

test('on its run’s page a step that waits is decided, and says afterwards who did it and why', async () => {
  const desk = await Desk.open()
  const one = await desk.asks({ amount: 180 })
  const { page, context, troubles } = await desk.visit(`/runs/${one.run}?step=${one.step}`)
  const panel = page.getByRole('complementary', { name: /^Step 2/ })
  await panel.getByRole('link', { name: 'large-refund' }).waitFor()
  await panel.getByLabel('Note, for the audit log').fill('no receipt')
  await panel.getByRole('button', { name: 'Deny' }).click()
  await panel.getByText('Denied. The agent hears why.').waitFor()
  await page.getByText('Refused by a person').first().waitFor()
  await page.reload()
  await panel.getByText('Denied by a person').waitFor()
  await panel.getByText('no receipt').waitFor()
  await panel.getByText(desk.account.email).waitFor()
  // Somebody else decides while one looks.
  const two = await desk.asks({ amount: 200 })
  await page.goto(`/runs/${two.run}?step=${two.step}`)
  await panel.getByRole('button', { name: 'Approve' }).waitFor()
  expect(await violations(page)).toEqual([])
  await server.call(desk.account.token, 'POST', `/v1/reviews/${two.review}/approve`, { note: 'on the phone' })
  await panel.getByText('on the phone').waitFor()
  expect(troubles).toEqual([])
  await context.close()
})

test('a policy has a page, which says what it did; the workspace says whom it may ask to wait', async () => {
  const desk = await Desk.open()
  const one = await desk.asks({ amount: 180 })
  await server.call(desk.account.token, 'POST', `/v1/reviews/${one.review}/approve`, { note: 'fine' })
  const { page, context, troubles } = await desk.visit('/overview')
  await press(page, 'Control+k')
  await page.keyboard.type('large-ref')
  await page.getByRole('option', { name: /large-refund/ }).waitFor()
  await press(page, 'Enter')
  await page.waitForURL('**/policies/large-refund')
  await page.getByText('1 asked').waitFor()
  await page.getByText(/1 of 1 review\s+approved, median/).waitFor()
  // The row of the step names who let it run.
  const { run_id } = await server.call(desk.account.token, 'GET', `/v1/reviews/${one.review}`)
  await page.goto(`/runs/${run_id}`)
  await page.getByText(`approved by ${desk.account.email} after`).waitFor()

  await page.goto('/account')
  await page.getByRole('button', { name: 'Those that say they can' }).click()
  await page.getByLabel('Time zone').fill('Mars/Olympus')
  await page.getByLabel('The week begins on').selectOption('sunday')
  await page.getByRole('button', { name: 'Save these' }).click()
  await page.locator('[aria-invalid="true"]').waitFor()
  await page.getByLabel('Time zone').fill('Asia/Kathmandu')
  await page.getByRole('button', { name: 'Save these' }).click()
  await page.getByText('Saved: in force for the next decision.').waitFor()
  const saved = await server.call(desk.account.token, 'GET', '/v1/workspace/')
  expect(saved).toMatchObject({ timezone: 'Asia/Kathmandu', week_start: 'sunday', reviews: 'known_clients' })
  await page.getByRole('button', { name: 'The workspace’s (UTC+5:45)' }).click()
  await page.getByText(/Now it is .* UTC\+5:45/).waitFor()
  expect(await violations(page)).toEqual([])
  expect(troubles).toEqual([])
  await context.close()
})
