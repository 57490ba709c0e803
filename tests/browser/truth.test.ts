// What a page says is so, and is the same wherever it says it: the headline, counts and the lists behind them, today.
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { type Account, PASSWORD, Server } from './server'

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
  const one = await server.account(`reader-${++made}@example.com`)
  const price = { input_cost_per_token: '0.0000025', output_cost_per_token: '0.00001' }
  await server.call(one.token, 'PUT', '/v1/model-pricing/gpt-4o', price)
  return one
}

const kill = (one: Account, active: boolean) => server.call(one.token, 'POST', '/v1/workspace/kill-switch', { active })
const rows = (page: Page) => page.locator('tbody tr:has([data-row])')

test('each count of denials leads to a list that adds up to it, those after an end too', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  // Stopped by one rule, then asked twice after the end; denied at the start; asked after a good end only.
  const stopped = await agent.start('bob', { task: 'Stopped' })
  await server.call(ada.token, 'PUT', '/v1/blocked-users/bob', {})
  await agent.ask(stopped.id, 1)
  await agent.end(stopped.id, 'BLOCKED')
  for (const n of [2, 3]) await agent.ask(stopped.id, n)
  await agent.start('bob', { task: 'Never began' })
  const done = await agent.start('carol', { task: 'Done' })
  await agent.end(done.id)
  await agent.ask(done.id, 1)
  await agent.end((await agent.start('carol', { task: 'Not denied' })).id)

  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/overview')
  await page.getByRole('link', { name: '5 denials' }).click()
  await page.waitForURL('**/runs?denied=true&time=today')
  await settled(page)
  await page.getByText(/5 denials/).waitFor()
  expect(await rows(page).count()).toBe(3)
  expect(await page.getByRole('link', { name: 'Not denied' }).count()).toBe(0)
  // A run that is denied now comes into the list by itself.
  const later = await agent.start('carol', { task: 'Later' })
  await kill(ada, true)
  await agent.ask(later.id, 1)
  await page.getByText(/6 denials/).waitFor()

  await page.goto('/overview')
  await settled(page)
  const ranking = page.locator('section', { has: page.getByRole('heading', { name: 'Denials by reason' }) })
  const links = await ranking.locator('li a').evaluateAll((all) => all.map((link) => link.getAttribute('href')!))
  expect(links).toHaveLength(3)
  for (const [link, names] of [
    [links.find((href) => href.includes('RUN_ALREADY_ENDED'))!, ['Stopped', 'Done']],
    [links.find((href) => href.includes('USER_BLOCKED'))!, ['Stopped', 'Never began']],
    [links.find((href) => href.includes('KILL_SWITCH'))!, ['Later']],
  ] as const) {
    await page.goto(link)
    await settled(page)
    for (const name of names) await page.getByRole('link', { name, exact: true }).waitFor()
    expect(await rows(page).count(), link).toBe(names.length)
  }
  expect(troubles).toEqual([])
  await context.close()
})

test('the count of blocked users leads to those users', async () => {
  const ada = await account()
  const block = (user_id: string) => server.call(ada.token, 'POST', '/v1/blocked-users', { user_id, reason: 'Loops' })
  const agent = server.agent(ada)
  await agent.end((await agent.start('seen')).id)
  await agent.end((await agent.start('free')).id)
  for (const user of ['seen', 'never/seen', 'let go', 'erased']) await block(user)
  await server.call(ada.token, 'POST', '/v1/blocked-users/unblock', { user_id: 'let go' })
  await server.call(ada.token, 'POST', '/v1/users/erase', { user_id: 'erased' })

  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/limits')
  const link = page.getByRole('link', { name: '2 users' })
  await link.waitFor()
  // It counts on by itself.
  await block('new')
  await page.getByRole('link', { name: '3 users' }).click()
  await page.waitForURL('**/users?blocked=true')
  await rows(page).getByRole('link', { name: 'never/seen' }).first().waitFor()
  const names = await rows(page).locator('th a').allTextContents()
  expect(names.map((name) => name.trim()).sort()).toEqual(['never/seen', 'new', 'seen'])
  expect(troubles).toEqual([])
  await context.close()
})

test('the list of models leads to all of them: priced, without a price, and with one that is inactive', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const { id } = await agent.start('user')
  const models = ['gpt-4o', 'retired', 'other/model', 'never priced', 'gpt-5', 'gpt-5-mini', 'silent']
  const price = (model: string, is_active: boolean) =>
    server.call(ada.token, 'PUT', '/v1/model-pricing/' + encodeURIComponent(model), {
      input_cost_per_token: '0.000001',
      output_cost_per_token: '0.000001',
      is_active,
    })
  for (const model of models.filter((name) => name !== 'never priced' && name !== 'silent')) await price(model, true)
  for (const [n, model] of models.entries())
    await agent.step(id, n + 1, { model }, model === 'silent' ? {} : { prompt: 500, completion: 100 })
  await price('retired', false)
  const { by_model } = await server.call(ada.token, 'GET', '/v1/usage/')
  expect(by_model).toHaveLength(models.length)

  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/overview')
  await page.getByRole('link', { name: `All ${models.length} models` }).click()
  await settled(page)
  for (const model of models) await page.getByRole('rowheader', { name: model }).filter({ has: page.getByText(model, { exact: true }) }).waitFor()
  // And the page of prices says no more of a model than is so.
  await page.goto('/prices')
  await page.getByRole('region', { name: '2 models are used without a price' }).waitFor()
  expect(troubles).toEqual([])
  await context.close()
})

test('the headline says what stops agents before it says anything calm', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const { id } = await agent.start('user')
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/overview')
  const headline = page.locator('.answer')
  await headline.filter({ hasText: '1 agent running' }).waitFor()
  await kill(ada, true)
  await headline.filter({ hasText: /^All agents are stopped since .* 1 is still open\.$/ }).waitFor()
  await kill(ada, false)
  await agent.step(id, 1, { model: 'gpt-4o' }, { prompt: 500, completion: 100 })
  await server.call(ada.token, 'PATCH', '/v1/workspace/', { daily_budget_usd: '0.002' })
  await headline.filter({ hasText: /^Every agent is refused: today’s \$0\.002 are spent\. Opens at \d\d:\d\d UTC/ }).waitFor()
  await page.getByText('$0.00225 were spent.').waitFor()
  await context.close()
})

test('a run of more steps than one answer holds says at once why it was stopped', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const { id } = await agent.start('user', { task: 'Long' })
  for (let n = 1; n <= 520; n += 40) {
    await Promise.all(Array.from({ length: 40 }, (_, i) => agent.step(id, n + i, { tool_name: 'search' })))
  }
  await kill(ada, true)
  await agent.ask(id, 600)
  await agent.end(id, 'BLOCKED')
  const { page, context } = await visit(browser, server, ada)
  await page.goto(`/runs/${id}`)
  await page.getByText(/^Denied at step 600 after .*: the kill switch was on\./).waitFor()
  await context.close()
})

test('today is one figure on a page, also in the second after it changed', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const { id } = await agent.start('user')
  await agent.step(id, 1, { model: 'gpt-4o' }, { prompt: 500, completion: 100 })
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/overview')
  await page.locator('canvas').waitFor()
  // Looked at whenever anything on the page changes, from inside of it.
  await page.evaluate(() => {
    const seen = new Set<string>()
    const look = () => {
      const text = (selector: string) => document.querySelector(selector)?.textContent.trim()
      const [today, week, month] = [...document.querySelectorAll('main .past tbody tr:first-child td b')].map((cell) => cell.textContent.trim())
      // A figure that stands alone is exact, those of a column have four decimals.
      const headline = /(\$[\d.]+) today/.exec(text('.answer') ?? '')?.[1]
      const figures = [headline, today, week, month, text('figcaption li strong + strong')]
      seen.add(figures.map((figure) => Math.round(Number(figure?.replace('$', '')) * 1e4 + 1e-6)).join(' '))
    }
    new MutationObserver(look).observe(document.querySelector('main')!, { subtree: true, childList: true, characterData: true })
    ;(window as unknown as { seen: Set<string> }).seen = seen
  })
  for (const n of [2, 3, 4]) {
    await agent.step(id, n, { model: 'gpt-4o' }, { prompt: 500, completion: 100 })
    await page.locator('.answer', { hasText: `$${+(0.00225 * n).toFixed(5)} today` }).waitFor()
  }
  // What follows an event within a second has come too.
  await page.locator('.rankings').getByText('$0.0090', { exact: true }).first().waitFor()
  const seen = await page.evaluate(() => [...(window as unknown as { seen: Set<string> }).seen])
  expect(seen.length).toBeGreaterThan(1)
  for (const figures of seen) expect(new Set(figures.split(' ')).size, figures).toBe(1)
  await context.close()
})

test('the chart keeps the day under the pointer while spend changes', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const { id } = await agent.start('user')
  await agent.step(id, 1, { model: 'gpt-4o' }, { prompt: 500, completion: 100 })
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/overview')
  const over = page.locator('.u-over')
  await over.waitFor()
  const box = (await over.boundingBox())!
  await page.mouse.move(box.x + box.width / 4, box.y + box.height / 2)
  const day = page.locator('figcaption li strong').first()
  await page.locator('figcaption', { hasNotText: 'today' }).waitFor()
  const before = await day.textContent()
  // The same model first, then one that takes a new colour, then one that is much dearer, with a wider axis.
  await server.call(ada.token, 'PUT', '/v1/model-pricing/gpt-5', { input_cost_per_token: '0.001', output_cost_per_token: '0.001' })
  let spent = 0.00225
  for (const [model, prompt, cost] of [
    ['gpt-4o', 500, 0.00225],
    ['gpt-5', 500, 0.6],
    ['gpt-5', 900_000, 900.1],
  ] as const) {
    await agent.step(id, 2, { model }, { prompt, completion: 100 })
    spent += cost
    await page.locator('.rankings').getByText(spent < 1 ? `$${spent.toFixed(4)}` : `$${spent.toFixed(2)}`).first().waitFor()
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))
    expect(await day.textContent(), model).toBe(before)
  }
  await context.close()
})

test('an empty server opens Register first, a closed one says how its first account is made', async () => {
  const empty = await Server.start()
  try {
    for (const path of ['/', '/sign-in', '/overview']) {
      const { page, context } = await visit(browser, empty)
      await page.goto(path)
      await page.waitForURL(/\/register/)
      await page.getByText('yours is the first').waitFor()
      await context.close()
    }
    const { page, context } = await visit(browser, empty)
    await page.goto('/')
    await page.getByLabel('Email').fill('first@example.com')
    await page.getByLabel('Password').fill('short')
    await page.getByRole('button', { name: 'Register' }).click()
    await page.locator('[aria-invalid="true"]').waitFor()
    // What is wrong stands where the hint was, once.
    expect(await page.getByText(/at least 8 characters/i).count()).toBe(1)
    await page.getByLabel('Password').fill(PASSWORD)
    await page.getByRole('button', { name: 'Register' }).click()
    await page.waitForURL('**/welcome')
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByRole('heading', { name: 'Sign in' }).waitFor()
    await page.goto('/')
    await page.waitForURL('**/sign-in')
    await context.close()
  } finally {
    await empty.close()
  }
  const closed = await Server.start('--registration', 'closed')
  try {
    const { page, context } = await visit(browser, closed)
    await page.goto('/')
    await page.waitForURL('**/sign-in')
    await page.getByText('pikarc create-user').waitFor()
    await context.close()
  } finally {
    await closed.close()
  }
})
