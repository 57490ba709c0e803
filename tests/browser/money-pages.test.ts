// Who costs what, and what a token costs: the pages on which people act on single rows.
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { launch, settled, shown, violations, visit, type Visit } from './browser'
import { type Account, Server } from './server'

const hostile = ['<img src=x onerror="document.title=\'owned\'">', '\u202Egnp.exe', 'org/42/user-7', '用户-😀', 'w'.repeat(255)]

let server: Server
let browser: Browser
let account: Account

beforeAll(async () => {
  server = await Server.start()
  browser = await launch()
  account = await server.account('ada@example.com')
  await server.call(account.token, 'PATCH', '/v1/workspace/', { max_concurrent_runs: 100 })
  await price('gpt-4o', '0.0000025', '0.00001')
  const agent = server.agent(account)
  const use = { prompt: 500, completion: 100 }
  for (const [i, user] of ['bob', 'carol', ...hostile].entries()) {
    const run = await agent.start(user)
    // The third costs most.
    for (let step = 0; step < (i === 2 ? 3 : 1); step++) await agent.step(run.id, step + 1, { model: 'gpt-4o' }, use)
    await agent.step(run.id, 9, { model: '<b>new</b>/model' }, use)
    await agent.end(run.id)
  }
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

function price(model: string, input: string, output: string) {
  const path = '/v1/model-pricing/' + encodeURIComponent(model)
  return server.call(account.token, 'PUT', path, { input_cost_per_token: input, output_cost_per_token: output })
}

async function open(path: string, use: (visit: Visit) => Promise<void>, options = {}) {
  const visited = await visit(browser, server, account, options)
  try {
    await visited.page.goto(path)
    await settled(visited.page)
    await use(visited)
    expect(visited.troubles).toEqual([])
  } finally {
    await visited.context.close()
  }
}

describe('users', () => {
  test('the dearest user comes first, and strings of strangers are text', () =>
    open('/users', async ({ page }) => {
      const rows = page.locator('tbody th a')
      expect(await rows.first().textContent()).toBe(hostile[0])
      for (const text of hostile) await page.getByText(shown(text), { exact: true }).first().waitFor()
      expect(await page.locator('main').textContent()).not.toContain('\u202E')
      expect(await page.title()).toBe('Users · Pikarc')
      expect(await page.locator('tbody img').count()).toBe(0)
    }))

  test('one press blocks, the reason follows in place, and the agent is denied at once', () =>
    open('/users', async ({ page }) => {
      await page.getByRole('button', { name: 'Block bob', exact: true }).click()
      await page.getByRole('button', { name: 'Unblock bob', exact: true }).waitFor()
      const answer = await server.agent(account).start('bob')
      expect(answer.decision).toMatchObject({ outcome: 'DENY', reason: 'USER_BLOCKED' })

      const reason = page.getByLabel('Why is this user blocked?')
      expect(await reason.evaluate((field) => field === document.activeElement)).toBe(true)
      await reason.fill('<b>runaway</b> loop')
      await page.keyboard.press('Enter')
      await page.getByText('<b>runaway</b> loop').waitFor()

      await page.goto('/users?blocked=true')
      await page.getByText('<b>runaway</b> loop').waitFor()
      expect(await page.locator('tbody tr').count()).toBe(1)
      await page.getByRole('button', { name: 'Unblock bob' }).click()
      await page.getByRole('button', { name: 'Block bob', exact: true }).waitFor()
      expect((await server.agent(account).start('bob')).decision.outcome).toBe('ALLOW')
    }))

  test('a search is in the address, and back undoes a filter', () =>
    open('/users', async ({ page }) => {
      await page.keyboard.press('/')
      await page.keyboard.type('GNP')
      await page.waitForURL(/q=GNP/)
      await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1)
      await page.getByRole('group', { name: 'Show' }).getByRole('button', { name: 'Blocked', exact: true }).click()
      await page.getByText('No user id contains this text.').waitFor()
      await page.goBack()
      await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 1)
    }))

  test('a person is erased after a question, and the figures stay under a made-up name', () =>
    open('/users', async ({ page }) => {
      const maria = 'maria@example.com'
      const agent = server.agent(account)
      const { id } = await agent.start(maria, { task: `Write to ${maria}` })
      await agent.step(id, 1, { model: 'gpt-4o', input_data: { to: maria } }, { prompt: 500, completion: 100 })
      await page.getByRole('link', { name: maria }).waitFor()
      // Somebody else looks at the same list.
      const other = await visit(browser, server, account)
      await other.page.goto('/users')
      await other.page.getByRole('link', { name: maria }).waitFor()
      const erase = page.getByRole('button', { name: `Erase ${maria}` })
      const dialog = page.getByRole('dialog', { name: 'Erase this person?' })
      await erase.click()
      // A slip of the finger erases nobody.
      await page.waitForFunction(() => document.activeElement?.textContent?.trim() === 'Cancel')
      await page.keyboard.press('Enter')
      await dialog.waitFor({ state: 'hidden' })
      await page.getByRole('link', { name: maria }).waitFor()

      await erase.click()
      await dialog.getByText('This cannot be undone.').waitFor()
      await dialog.getByRole('button', { name: 'Erase for good' }).click()
      await dialog.waitFor({ state: 'hidden' })
      await page.getByText(maria).waitFor({ state: 'detached' })
      await other.page.getByText(maria).waitFor({ state: 'detached' })
      await other.context.close()
      const erased = page.locator('tbody tr', { hasText: 'the figures stay under this name' })
      expect(await erased.textContent()).toContain('$0.0023')
      expect(await erased.locator('[title="$0.00225"]').count()).toBeGreaterThan(0)
      expect(await erased.getByRole('button', { name: /^Erase/ }).count()).toBe(0)
      await erased.getByRole('link').first().click()
      await page.getByRole('region', { name: 'The latest runs of this user' }).getByRole('link').first().click()
      await page.waitForURL(`**/runs/${id}`)
      await settled(page)
      await page.getByRole('list', { name: 'Steps' }).getByText('gpt-4o').first().waitFor()
      expect(await page.content()).not.toContain('maria')
      // The audit log tells that somebody was erased, and not who.
      await page.goto('/audit')
      const entry = page.locator('tbody tr', { hasText: 'Erased' })
      await entry.waitFor()
      expect(await page.content()).not.toContain('maria')
    }))

  test('somebody who never came can be blocked', () =>
    open('/users?q=mallory', async ({ page }) => {
      await page.getByRole('button', { name: 'Block mallory' }).click()
      await page.getByRole('button', { name: 'Unblock mallory' }).waitFor()
      const answer = await server.agent(account).start('mallory')
      expect(answer.decision.reason).toBe('USER_BLOCKED')
    }))
})

describe('prices', () => {
  test('a model without a price is on top, and gets one', () =>
    open('/prices', async ({ page }) => {
      const warning = page.getByRole('region', { name: '1 model is used without a price' })
      expect(await warning.textContent()).toContain('4,200')
      await warning.getByRole('link', { name: 'Add price for <b>new</b>/model' }).click()
      expect(await page.getByLabel('Model', { exact: true }).inputValue()).toBe('<b>new</b>/model')
      await page.getByLabel('Input, 1M tokens').fill('0.30')
      expect(await page.getByLabel('Input, 1 token').inputValue()).toBe('0.0000003')
      await page.getByLabel('Output, 1 token').fill('0.0000012')
      expect(await page.getByLabel('Output, 1M tokens').inputValue()).toBe('1.2')
      await page.getByRole('button', { name: 'Save price' }).click()
      await warning.waitFor({ state: 'detached' })
      const listed = await server.call(account.apiKey, 'GET', '/v1/model-pricing/')
      expect(listed).toContainEqual(
        expect.objectContaining({ model: '<b>new</b>/model', input_cost_per_token: 3e-7, output_cost_per_token: 1.2e-6 }),
      )
    }))

  test('a price is edited in place; what is wrong is said at the field', () =>
    open('/prices', async ({ page }) => {
      await page.getByRole('button', { name: 'Edit gpt-4o' }).click()
      const form = page.getByRole('form', { name: 'Price of gpt-4o' })
      await form.getByLabel('Output, 1M tokens').fill('12,5')
      await page.keyboard.press('Enter')
      await form.getByText('A number, such as 2.50.').waitFor()
      await form.getByLabel('Output, 1M tokens').fill('12.5')
      await page.keyboard.press('Enter')
      await form.waitFor({ state: 'detached' })
      await page.getByRole('cell', { name: '$12.50' }).waitFor()
      await page.getByText('The price of gpt-4o is saved').waitFor()
    }))

  test('a deactivated price stays in sight until one leaves, then on demand', () =>
    open('/prices', async ({ page }) => {
      await price('old-model', '0.000001', '0.000001')
      await page.getByRole('button', { name: 'Deactivate old-model' }).click()
      await page.getByRole('button', { name: 'Activate old-model', exact: true }).waitFor()
      await page.reload()
      await page.getByRole('link', { name: 'Show inactive prices (1)' }).click()
      await page.waitForURL(/inactive=true/)
      await page.getByRole('button', { name: 'Activate old-model', exact: true }).waitFor()
      // Neither the form nor what is shown takes the other away.
      await page.getByRole('link', { name: 'Add price', exact: true }).click()
      await page.getByLabel('Model', { exact: true }).fill('half-typed')
      await page.getByRole('link', { name: 'Hide inactive prices' }).click()
      await page.getByRole('button', { name: 'Activate old-model', exact: true }).waitFor({ state: 'detached' })
      expect(await page.getByLabel('Model', { exact: true }).inputValue()).toBe('half-typed')
    }))
})

describe('the catalogue', () => {
  // A workspace of before: published prices are off, and what it used has no price.
  async function older(email: string, use: (page: Page, owner: Account) => Promise<void>, options = {}) {
    const owner = await server.account(email)
    await server.call(owner.token, 'PATCH', '/v1/workspace/', { price_catalogue: false })
    const agent = server.agent(owner)
    const run = await agent.start('eve')
    await agent.step(run.id, 1, { model: 'gpt-4o-2024-08-06' }, { prompt: 1000, completion: 100 })
    const visited = await visit(browser, server, owner, options)
    try {
      await visited.page.goto('/prices')
      await settled(visited.page)
      await use(visited.page, owner)
      expect(visited.troubles).toEqual([])
    } finally {
      await visited.context.close()
    }
  }

  test('one press takes its price, after what the tokens would cost', () =>
    older('older@example.com', async (page, owner) => {
      await page.getByRole('heading', { name: 'Published prices are off' }).waitFor()
      const warning = page.getByRole('region', { name: '1 model is used without a price' })
      await warning.getByText('$0.0035', { exact: true }).waitFor()
      await warning.getByText('openai/gpt-4o: $2.50 in', { exact: false }).waitFor()
      await warning.getByRole('button', { name: 'Use the catalogue’s price for gpt-4o-2024-08-06' }).click()
      await warning.waitFor({ state: 'detached' })
      const listed = await server.call(owner.apiKey, 'GET', '/v1/model-pricing/')
      expect(listed).toEqual([
        expect.objectContaining({
          model: 'gpt-4o-2024-08-06',
          input_cost_per_token: 2.5e-6,
          output_cost_per_token: 1e-5,
          cached_input_cost_per_token: 1.25e-6,
        }),
      ])
      // Editing one price loses none of the others.
      await page.getByRole('button', { name: 'Edit gpt-4o-2024-08-06' }).click()
      await page.getByLabel('Output, 1M tokens').fill('11')
      await page.getByRole('button', { name: 'Save price' }).click()
      await page.getByRole('cell', { name: '$11.00' }).waitFor()
      const again = await server.call(owner.apiKey, 'GET', '/v1/model-pricing/')
      expect(again[0]).toMatchObject({ output_cost_per_token: 1.1e-5, cached_input_cost_per_token: 1.25e-6 })
      // The past gets the price only once that is confirmed.
      const spent = async () => (await server.call(owner.apiKey, 'GET', '/v1/usage/')).today.total_usd
      const unpriced = await spent()
      await page.getByRole('button', { name: 'Price the past' }).click()
      const dialog = page.getByRole('dialog', { name: 'Price the past?' })
      await dialog.getByText('1 step without a price would cost $0.0036', { exact: false }).waitFor()
      expect(await spent()).toBe(unpriced)
      await dialog.getByRole('button', { name: 'Book $0.0036' }).click()
      await dialog.waitFor({ state: 'detached' })
      await page.getByText('1 step of the past now costs $0.0036.').waitFor()
      expect(await spent()).toBeGreaterThan(unpriced)
      await page.getByRole('button', { name: 'Price the past' }).waitFor({ state: 'detached' })
    }))

  test('what has no price is nowhere written as nothing', () =>
    older('unknown@example.com', async (page) => {
      for (const path of ['/overview', '/runs', '/users', '/prices', '/limits']) {
        await page.goto(path)
        await settled(page)
        await page.getByText(/no price|without a price/).first().waitFor()
        expect(await page.locator('main').innerText()).not.toMatch(/\$0\.00(?!\d)(?! of)(?! spent)/)
      }
      await page.goto('/runs')
      await page.locator('tbody a').first().click()
      await page.waitForURL('**/runs/*')
      await settled(page)
      await page.getByText('no price').first().waitFor()
      expect(await page.locator('main').innerText()).not.toContain('$0.00')
    }))

  test('a name is tested, and the answer says why', () =>
    open('/prices', async ({ page }) => {
      const tester = page.getByRole('region', { name: 'Which price does a name get?' })
      for (const [name, answer] of [
        ['openai/gpt-4o-mini', 'It is a provider’s name and a model of theirs'],
        ['models/gemini-2.5-flash', 'The catalogue counts it to this entry'],
        ['gpt-4o', 'This workspace has an active entry'],
        ['gpt-4o-mi', 'Names that only resemble it do not count.'],
      ] as const) {
        await tester.getByLabel('Model name').fill(name)
        await page.keyboard.press('Enter')
        await tester.getByText(answer).waitFor()
      }
      await tester.getByText('no price').waitFor()
    }))

  test('it is searched page by page, and the address keeps the place', () =>
    open('/prices', async ({ page }) => {
      const list = page.getByRole('region', { name: 'Catalogue', exact: true })
      await page.getByRole('link', { name: 'Next page' }).click()
      await page.waitForURL(/cursor=/)
      await page.getByLabel('Search the catalogue').fill('claude-2')
      await page.waitForURL((url) => url.searchParams.get('q') === 'claude-2' && !url.searchParams.has('cursor'))
      await list.getByText('claude-2', { exact: true }).first().waitFor()
      await page.getByLabel('Search the catalogue').fill('nothing has this name')
      await page.getByText('No published price has this text in its names.').waitFor()
    }))

  test('a model is the same as another', () =>
    open('/prices?add=my-deployment', async ({ page }) => {
      await page.getByRole('button', { name: 'Same as another model' }).click()
      await page.getByLabel('Same as', { exact: true }).fill('my-deployment')
      await page.getByRole('button', { name: 'Save price' }).click()
      await page.getByText('A model cannot be the same as itself.').waitFor()
      await page.getByLabel('Same as', { exact: true }).fill('gpt-4o-mini')
      await page.getByRole('button', { name: 'Save price' }).click()
      await page.getByRole('row', { name: /my-deployment.*Same as gpt-4o-mini/ }).waitFor()
      const listed = await server.call(account.apiKey, 'GET', '/v1/model-pricing/')
      expect(listed).toContainEqual(expect.objectContaining({ model: 'my-deployment', same_as: 'gpt-4o-mini' }))
    }))
})

describe.each(['light', 'dark'] as const)('%s', (colorScheme) => {
  test.each(['/users?q=nobody-at-all', '/prices?add=x&inactive=true'])('%s is accessible', (path) =>
    open(path, async ({ page }) => expect(await violations(page)).toEqual([]), { colorScheme }),
  )
})

test.each(['/prices?add=x'])('%s fits a phone of 360 px', (path) =>
  open(
    path,
    async ({ page }) => {
      const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
      expect(beyond).toBeLessThanOrEqual(0)
    },
    { viewport: { width: 360, height: 740 } },
  ),
)
