// Overview in each of its states, with what really happened behind it, and how one gets from a fire to its end.
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, violations, visit } from './browser'
import { type Account, Server, until } from './server'
import { withinLimit } from './tasks'

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

let accounts = 0

/** A workspace of its own in which a token of "dollar" costs a dollar. */
async function workspace(change: object = {}): Promise<Account> {
  const account = await server.account(`person-${++accounts}@example.com`)
  const price = { input_cost_per_token: '1', output_cost_per_token: '0' }
  await server.call(account.token, 'PUT', '/v1/model-pricing/dollar', price)
  await server.call(account.token, 'PATCH', '/v1/workspace/', { daily_budget_usd: '100', max_concurrent_runs: 50, ...change })
  return account
}

/** Somebody's agent spends so many dollars, and goes on. */
async function spend(account: Account, user: string, task: string, dollars: number): Promise<string> {
  const agent = server.agent(account)
  const { id } = await agent.start(user, { task })
  await agent.step(id, 1, { model: 'dollar' }, { prompt: dollars })
  return id
}

async function fire(): Promise<{ account: Account; id: string }> {
  const account = await workspace()
  await spend(account, 'contoso/j.tanaka', 'Reconcile the invoices', 1)
  const id = await spend(account, 'cust-9999', 'Nightly batch', 30)
  return { account, id }
}

/** The sentence and the state that it is of. */
const says = async (page: Page) => {
  const answer = page.locator('.answer')
  return [await answer.getAttribute('data-state'), (await answer.textContent())!.trim().replace(/\s+/g, ' ')] as const
}

/** Pictures for people, where a folder is named: SCREENSHOTS=dir. */
async function picture(page: Page, name: string) {
  const dir = process.env.SCREENSHOTS
  if (!dir) return
  await mkdir(dir, { recursive: true })
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme })
    for (const width of [1440, 768, 390]) {
      await page.setViewportSize({ width, height: 900 })
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))
      await page.screenshot({ path: join(dir, `${name}-${width}-${colorScheme}.png`), fullPage: width > 500 })
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 })
}

async function open(account: Account) {
  const visited = await visit(browser, server, account)
  await visited.page.goto('/overview')
  await settled(visited.page)
  return visited
}

test('nothing happens: a calm sentence, and the tab is quiet', async () => {
  const account = await workspace()
  const { page, context, troubles } = await open(account)
  expect(await says(page)).toEqual(['calm', 'No agent running, $0 a minute, $0.00 of $100.00 today.'])
  expect(await page.title()).toBe('Overview · Pikarc')
  await spend(account, 'ada', 'Compare offers', 1)
  await until('the run to be told', async () => (await says(page))[1].startsWith('1 agent running, $1.00 a minute, $1.00 of'))
  await picture(page, 'calm')
  expect(await violations(page)).toEqual([])
  expect(troubles).toEqual([])
  await context.close()
})

test('it burns: the sentence, the tab and the icon name it, and two presses end just that run', async () => {
  const { account, id } = await fire()
  const { page, context, troubles } = await open(account)
  const [state, text] = await says(page)
  expect(state).toBe('burning')
  expect(text).toMatch(/^Burning \$31\.00 a minute: “Nightly batch” \(cust-9999\)\. The budget is gone in [12] min( \d+ s)?\.$/)
  expect(await page.title()).toMatch(/^● \$31\/min · Overview · Pikarc$/)
  expect(await page.locator('link[rel="icon"]').getAttribute('href')).toContain('burning')
  // The rows are in the order of what they burn.
  expect(await page.locator('main tbody tr [data-row]').allTextContents()).toEqual(['Nightly batch', 'Reconcile the invoices'])
  await picture(page, 'burning')
  expect(await violations(page)).toEqual([])

  await page.getByRole('button', { name: 'End run' }).first().click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('“Nightly batch” of cust-9999 ends as failed').waitFor()
  await dialog.getByRole('button', { name: 'End run' }).click()
  await dialog.waitFor({ state: 'hidden' })
  await withinLimit(page)
  expect((await server.call(account.token, 'GET', `/v1/runs/${id}`)).status).toBe('FAILED')
  // A row that has ended stays as long as the pointer is among them.
  await page.mouse.move(0, 0)
  await until('the other to run alone', async () => (await page.locator('main tbody tr [data-row]').count()) === 1)
  expect((await server.call(account.token, 'GET', '/v1/runs/?status=RUNNING')).items).toHaveLength(1)
  expect(troubles).toEqual([])
  await context.close()
})

test('it burns: its user is blocked with a reason, and nobody else', async () => {
  const { account } = await fire()
  const { page, context, troubles } = await open(account)
  await page.getByRole('button', { name: 'Block cust-9999' }).first().click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('1 running run will be refused at its next step').waitFor()
  await dialog.getByRole('textbox').fill('loop')
  await dialog.getByRole('button', { name: 'Block user' }).click()
  await dialog.waitFor({ state: 'hidden' })
  const { items } = await server.call(account.token, 'GET', '/v1/users/?blocked=true')
  expect(items.map((user: { user_id: string; blocked_reason: string }) => [user.user_id, user.blocked_reason])).toEqual([['cust-9999', 'loop']])
  expect(troubles).toEqual([])
  await context.close()
})

test('all are stopped by a key with a reason, from any page, and let run again with another', async () => {
  const { account } = await fire()
  const { page, context, troubles } = await visit(browser, server, account)
  await page.goto('/runs')
  await settled(page)
  await page.keyboard.press('!')
  const dialog = page.getByRole('dialog')
  await dialog.getByText('2 running agents will be refused at their next step').waitFor()
  // The focus starts where nothing happens.
  expect(await page.evaluate(() => document.activeElement?.textContent?.trim())).toBe('Cancel')
  await dialog.getByRole('textbox').fill('loop in batch')
  await dialog.getByRole('button', { name: 'Stop all agents' }).click()
  await dialog.waitFor({ state: 'hidden' })
  await until('the tab to say so', async () => (await page.title()).startsWith('■ stopped · Runs'))
  expect(await page.locator('link[rel="icon"]').getAttribute('href')).toContain('stopped')
  await page.goto('/overview')
  await settled(page)
  const [state, text] = await says(page)
  expect(state).toBe('stopped')
  expect(text).toMatch(/^All agents are stopped since \d\d:\d\d UTC\S* by person-\d+@example\.com: “loop in batch”\. 2 are still open\.$/)
  await picture(page, 'stopped')
  expect(await violations(page)).toEqual([])
  await page.keyboard.press('!')
  await dialog.getByText('2 open runs may go on at once').waitFor()
  await dialog.getByRole('textbox').fill('the batch is mended')
  await dialog.getByRole('button', { name: 'Let agents run' }).click()
  await until('agents to run', async () => (await says(page))[0] !== 'stopped')
  const { items } = await server.call(account.token, 'GET', '/v1/audit/?action=workspace.kill_switch')
  expect(items.map(({ after }: { after: { reason: string } }) => after.reason)).toEqual(['the batch is mended', 'loop in batch'])
  expect(troubles).toEqual([])
  await context.close()
})

test('the budget is spent: every agent is refused, and when it opens', async () => {
  const account = await workspace()
  await spend(account, 'cust-9999', 'Nightly batch', 100)
  const { page, context, troubles } = await open(account)
  const [state, text] = await says(page)
  expect(state).toBe('refused')
  expect(text).toMatch(/^Every agent is refused: today’s \$100\.00 are spent\. Opens at \d\d:\d\d UTC\S*, in .+\.$/)
  expect(await page.title()).toBe('■ refused · Overview · Pikarc')
  await picture(page, 'refused')
  expect(await violations(page)).toEqual([])
  expect(troubles).toEqual([])
  await context.close()
})

test('tokens have no price: the sentence says how many', async () => {
  const account = await workspace({ price_catalogue: false })
  const agent = server.agent(account)
  const { id } = await agent.start('ada', { task: 'Compare offers' })
  await agent.step(id, 1, { model: 'unheard-of' }, { prompt: 1_200_000 })
  const { page, context, troubles } = await open(account)
  expect(await says(page)).toEqual(['unpriced', '1.2 M tokens today have no price.'])
  await picture(page, 'unpriced')
  expect(await violations(page)).toEqual([])
  expect(troubles).toEqual([])
  await context.close()
})

test('what is typed after Ctrl K, before its code has come, is in its field and no key of the page', async () => {
  const { account } = await fire()
  const { page, context, troubles } = await open(account)
  let release = () => {}
  const held = new Promise<void>((done) => (release = done))
  let asked = () => {}
  const loading = new Promise<void>((done) => (asked = done))
  await page.route('**/Palette-*.js', async (route) => {
    asked()
    await held
    await route.continue()
  })
  await page.keyboard.press('Control+k')
  await loading
  await page.keyboard.type('pri!g r')
  for (let n = 0; n < 4; n++) await page.keyboard.press('Backspace')
  release()
  await page.getByRole('option', { name: 'Prices' }).waitFor()
  expect(await page.getByRole('combobox', { name: 'A page, run, user, policy or model' }).inputValue()).toBe('pri')
  expect(await page.getByRole('dialog').count()).toBe(1)
  await page.keyboard.press('Enter')
  await page.waitForURL('**/prices')
  expect(troubles).toEqual([])
  await context.close()
})

test('Ctrl K goes to a page, a user and a run', async () => {
  const { account, id } = await fire()
  const { page, context, troubles } = await open(account)
  const go = async (typed: string, option: RegExp) => {
    await page.keyboard.press('Control+k')
    const field = page.getByRole('combobox', { name: 'A page, run, user, policy or model' })
    await field.fill(typed)
    await page.getByRole('option', { name: option }).waitFor()
    await page.keyboard.press('Enter')
    await field.waitFor({ state: 'hidden' })
  }
  await page.keyboard.press('Control+k')
  await page.getByRole('option', { name: 'Overview' }).waitFor()
  expect(await violations(page)).toEqual([])
  await picture(page, 'palette')
  await page.keyboard.press('Escape')
  await go('audit', /^Audit log/)
  expect(new URL(page.url()).pathname).toBe('/audit')
  await go(id, /Nightly batch/)
  expect(new URL(page.url()).pathname).toBe(`/runs/${id}`)
  await go('tanaka', /contoso\/j\.tanaka/)
  expect(decodeURIComponent(page.url())).toContain('contoso/j.tanaka')
  expect(troubles).toEqual([])
  await context.close()
})
