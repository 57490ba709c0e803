// What people do here: begin, watch, find out why, and stop.
import { execFile } from 'node:child_process'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Browser, Route } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { type Account, PASSWORD, Server, until } from './server'

let server: Server
let browser: Browser
let made = 0

beforeAll(async () => {
  server = await Server.start('--registration', 'open') // tests make accounts before one registers
  browser = await launch()
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

/** An account of its own, so that no test meets another's. */
function account(plan?: string): Promise<Account> {
  return server.account(`person-${++made}@example.com`, plan)
}

test('one registers, sees the key, and the first run turns the page into that run', async () => {
  const { page, context, troubles } = await visit(browser, server)
  await page.goto('/register')
  await page.getByLabel('Email').fill('new@example.com')
  await page.getByLabel('Password').fill('short')
  await page.getByRole('button', { name: 'Register' }).click()
  // The field is wrong once the answer is there, and the button is no longer busy.
  await page.locator('[aria-invalid="true"]').waitFor()
  await page.getByText('at least 8 characters').first().waitFor()
  await page.getByLabel('Password').fill(PASSWORD)
  await page.getByRole('button', { name: 'Register' }).click()
  await page.waitForURL('**/welcome')
  const key = await page.locator('.key code').textContent()
  expect(key).toMatch(/^lg_[0-9a-f]{8}_[0-9a-f]{64}$/)
  await page.getByText('Waiting for the first call of your agent…').waitFor()
  await publishedClient(key!)
  // Nobody presses anything: the line turns into the run.
  await page.getByText('Your agent is guarded.').waitFor()
  await page.getByRole('link', { name: 'Say hello' }).waitFor()
  expect(await page.getByText('Waiting for the first call of your agent…').count()).toBe(0)
  await page.locator('a[href^="/runs/"]').first().click()
  await page.getByRole('heading', { name: 'Say hello' }).waitFor()
  await page.getByText('gpt-4o').first().waitFor()
  expect(troubles).toEqual([])
  await context.close()
})

/** A first agent under the published Python client, which tests/client/run.sh has installed. */
async function publishedClient(key: string) {
  const venv = resolve(import.meta.dirname, '../client/.venv')
  const agent = `
import asyncio, sys
from pikarc import AsyncPikarc

async def main():
    guard = AsyncPikarc(api_key=sys.argv[1], base_url=sys.argv[2])
    async with guard.run(user_id="first", metadata={"task": "Say hello"}) as run:
        async def answer():
            return (12, 3)
        await run.model_call(answer, model="gpt-4o", token_extractor=lambda used: used)

asyncio.run(main())
`
  const env = { ...process.env, PYTHONPATH: join(venv, 'clients/0.1.0'), PYTHONDONTWRITEBYTECODE: '1' }
  await promisify(execFile)(join(venv, 'bin/python'), ['-c', agent, key, server.url], { env })
}

test('a wrong password is told, and closed registration too', async () => {
  const { email } = await account()
  const { page, context } = await visit(browser, server)
  await page.goto('/sign-in')
  await page.getByLabel('Email').fill(email)
  await page.getByLabel('Password').fill('not the password')
  await page.getByRole('button', { name: 'Sign in' }).click()
  const password = page.getByLabel('Password')
  await page.getByText('Incorrect email or password').waitFor()
  expect(await password.evaluate((field) => field === document.activeElement && field.getAttribute('aria-invalid'))).toBe('true')
  const told = (await password.getAttribute('aria-describedby'))!
  expect(await page.locator('#' + told).textContent()).toContain('Incorrect email or password')
  await context.close()

  const closed = await Server.start('--registration', 'closed')
  try {
    const outside = await visit(browser, closed)
    await outside.page.goto('/register')
    await outside.page.getByText('closed').first().waitFor()
    await outside.context.close()
  } finally {
    await closed.close()
  }
})

test('the kill switch asks first, and stops a running agent at its next step', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  const { id } = await agent.start('user')
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/overview')
  await settled(page)
  await page.locator('main').getByRole('button', { name: 'Stop all agents' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText('1 running agent').waitFor()
  await page.waitForFunction(() => document.activeElement?.textContent?.trim() === 'Cancel')
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'hidden' })
  expect((await agent.ask(id, 1)).decision.outcome).toBe('ALLOW')

  await page.locator('main').getByRole('button', { name: 'Stop all agents' }).click()
  await dialog.getByRole('button', { name: 'Stop all agents' }).click()
  await page.getByText('All agents are stopped').first().waitFor()
  await page.waitForFunction(() => document.activeElement?.textContent?.trim() === 'Let agents run again')
  expect((await agent.ask(id, 2)).decision).toMatchObject({ outcome: 'DENY', reason: 'KILL_SWITCH_ACTIVE' })
  // The button that has the focus is the same one, which now lets them run again: it asks too.
  await page.keyboard.press('Enter')
  await dialog.getByText('1 open run may go on at once').waitFor()
  await dialog.getByRole('button', { name: 'Let agents run' }).click()
  await page.waitForFunction(() => document.activeElement?.textContent?.trim().startsWith('Stop all agents'))
  await until('agents to be allowed', async () => (await agent.ask(id, 3)).decision.outcome === 'ALLOW')
  await context.close()
})

test('what the plan lacks is shown, disabled, with the plans that have it', async () => {
  const { page, context } = await visit(browser, server, await account('basic'))
  await page.goto('/limits')
  await settled(page)
  await page.locator('main').getByText('The Scale and Enterprise plans have the kill switch.').waitFor()
  await page.getByText('The Pro, Scale and Enterprise plans have a budget for each user.').waitFor()
  expect(await page.getByRole('textbox', { name: 'Concurrent runs' }).isDisabled()).toBe(true)
  await context.close()
})

test('a budget set on the limits page denies the next step, and two clicks from the overview say why', async () => {
  const ada = await account()
  const price = { input_cost_per_token: '0.0000025', output_cost_per_token: '0.00001' }
  await server.call(ada.token, 'PUT', '/v1/model-pricing/gpt-4o', price)
  const agent = server.agent(ada)
  const { id } = await agent.start('user', { task: 'Spend too much' })
  await agent.step(id, 1, { model: 'gpt-4o' }, { prompt: 500, completion: 100 })

  const { page, context } = await visit(browser, server, ada)
  await page.goto('/limits')
  await settled(page)
  await page.getByRole('button', { name: 'Edit: Daily budget', exact: true }).click()
  await page.getByRole('textbox', { name: 'Daily budget', exact: true }).fill('2,5')
  await page.getByRole('button', { name: 'Save: Daily budget', exact: true }).click()
  await page.getByText('Write an amount in dollars').waitFor()
  await page.getByRole('textbox', { name: 'Daily budget', exact: true }).fill('$2e-3')
  // What it would do is said beside it, and asked again: it stops what runs.
  await page.getByText('1 running agent will be refused at once.').waitFor()
  await page.getByRole('button', { name: 'Save and refuse 1 agent: Daily budget', exact: true }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByText(/Today’s \$0\.00225 are already at \$0\.002 or above: 1 running agent is refused/).waitFor()
  await page.waitForFunction(() => document.activeElement?.textContent?.trim() === 'Cancel')
  await dialog.getByRole('button', { name: 'Save and refuse 1 agent' }).click()
  await page.getByText('limit reached').first().waitFor()
  expect((await agent.ask(id, 2)).decision.reason).toBe('WORKSPACE_DAILY_BUDGET_EXCEEDED')
  await agent.end(id, 'BLOCKED')

  await page.goto('/overview')
  await settled(page)
  await page.getByText('$0.00225 were spent.').first().waitFor()
  await page.getByRole('link', { name: /1 denial/ }).first().click()
  await page.getByRole('link', { name: 'Spend too much' }).first().click()
  await page.getByText(/the workspace had spent \$0\.00225 of its \$0\.002 a day/).first().waitFor()
  await context.close()
})

test('a changed limit keeps the focus, and midnight in UTC is noticed without an event', async () => {
  const ada = await account()
  const { page, context } = await visit(browser, server, ada)
  await page.clock.install({ time: new Date('2026-11-25T23:59:50Z') })
  await page.goto('/limits?rule=daily-budget')
  await settled(page)
  const field = page.getByRole('textbox', { name: 'Daily budget', exact: true })
  const focused = () => field.evaluate((input) => input === document.activeElement)
  await field.fill('5')
  await page.getByRole('button', { name: 'Cancel' }).click()
  await until('the focus after cancelling', focused)
  await field.fill('5')
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: 'Remove budget: Daily budget', exact: true }).click()
  await until('the focus after removing', focused)

  const read = page.waitForRequest('**/v1/usage/')
  await page.clock.fastForward(20_000)
  await read
  await context.close()
})

test('what the plan no longer has is refused with a sentence, in the dialog that asked', async () => {
  const ada = await account('scale')
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/overview')
  await settled(page)
  // Only when the page has asked, so that it cannot know better.
  await page.route('**/v1/workspace/kill-switch', async (route) => {
    await server.command('set-plan', '--email', ada.email, 'basic')
    await route.continue()
  })
  await page.locator('main').getByRole('button', { name: 'Stop all agents' }).click()
  const dialog = page.getByRole('dialog')
  const refused = page.waitForResponse('**/v1/workspace/kill-switch')
  await dialog.getByRole('button', { name: 'Stop all agents' }).click()
  expect((await refused).status()).toBe(403)
  await dialog.getByRole('alert').getByText(/plan/).waitFor()
  expect(await dialog.getByRole('alert').textContent()).toMatch(/^[A-Z][^{}_]+\.?$/)
  await context.close()
})

test('a dialog keeps the focus inside, and gives it back', async () => {
  const { page, context } = await visit(browser, server, await account())
  await page.goto('/overview')
  await settled(page)
  const opener = page.locator('main').getByRole('button', { name: 'Stop all agents' })
  await opener.focus()
  await page.keyboard.press('Enter')
  const dialog = page.getByRole('dialog')
  await page.waitForFunction(() => document.activeElement?.textContent?.trim() === 'Cancel')
  const seen = new Set<string>()
  for (const key of ['Tab', 'Tab', 'Tab', 'Tab', 'Shift+Tab', 'Shift+Tab', 'Shift+Tab']) {
    await page.keyboard.press(key)
    // Between the last and the first the browser's own buttons have it: then it is nowhere on the page.
    const at = await dialog.evaluate((box) => {
      const active = document.activeElement!
      if (active === document.body) return ''
      return box.contains(active) ? active.textContent!.trim() || active.tagName : 'outside: ' + active.outerHTML
    })
    seen.add(at)
  }
  seen.delete('')
  expect([...seen].sort()).toEqual(['Cancel', 'INPUT', 'Stop all agents'])
  await page.keyboard.press('Escape')
  await dialog.waitFor({ state: 'hidden' })
  expect(await opener.evaluate((button) => button === document.activeElement)).toBe(true)
  await context.close()
})

test('the controls above the runs filter them, each alone and all together', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  await agent.end((await agent.start('bob')).id, 'FAILED')
  await agent.end((await agent.start('bob')).id)
  await agent.end((await agent.start('carol')).id, 'FAILED')
  await server.call(ada.token, 'PUT', '/v1/blocked-users/mallory', { reason: null })
  await agent.start('mallory')
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/runs')
  await settled(page)
  const shows = (rows: number) => page.waitForFunction((n) => document.querySelectorAll('tbody [data-row]').length === n, rows)
  await shows(4)
  await page.getByRole('button', { name: 'Failed' }).click()
  await page.waitForURL('**/runs?status=FAILED')
  await shows(2)
  await page.getByRole('searchbox', { name: 'Search runs' }).fill('user:bob')
  await page.keyboard.press('Enter')
  await page.waitForURL('**/runs?status=FAILED&user_id=bob')
  await shows(1)
  await page.getByLabel('Time').selectOption('Last hour')
  await page.waitForURL(/time=1h/)
  await shows(1)
  await page.getByRole('link', { name: 'Clear' }).click()
  await page.waitForURL((url) => url.search === '')
  await shows(4)
  expect(await page.getByRole('searchbox', { name: 'Search runs' }).inputValue()).toBe('')
  await page.getByLabel('Reason').selectOption({ value: 'USER_BLOCKED' })
  await page.waitForURL('**/runs?reason=USER_BLOCKED')
  await shows(1)
  await page.goBack()
  await shows(4)
  await context.close()
})

test('filters are in the address and survive a reload', async () => {
  const ada = await account()
  const agent = server.agent(ada)
  await agent.end((await agent.start('kept')).id, 'FAILED')
  await agent.end((await agent.start('other')).id)
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/runs?status=FAILED')
  await settled(page)
  const rows = page.locator('tbody tr:has([data-row])')
  await rows.first().waitFor()
  await page.reload()
  await settled(page)
  await rows.first().waitFor()
  expect(await rows.count()).toBe(1)
  expect(await rows.first().textContent()).toContain('kept')
  await context.close()
})

test('two browsers show the same without a reload', async () => {
  const ada = await account()
  const one = await visit(browser, server, ada)
  const two = await visit(browser, server, ada)
  await two.page.goto('/overview')
  await settled(two.page)
  await one.page.goto('/overview')
  await settled(one.page)
  const agent = server.agent(ada)
  const { id } = await agent.start('user', { task: 'Seen by both' })
  for (const { page } of [one, two]) await page.getByText('Seen by both').first().waitFor()
  await one.page.locator('main').getByRole('button', { name: 'Stop all agents' }).click()
  await one.page.getByRole('dialog').getByRole('button', { name: 'Stop all agents' }).click()
  await two.page.getByText('All agents are stopped').first().waitFor()
  await agent.end(id)
  await one.context.close()
  await two.context.close()
})

test('a session that ends leads to sign-in, and back to where one was', async () => {
  const ada = await account()
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/prices')
  await settled(page)
  const body = { current_password: PASSWORD, new_password: PASSWORD + '!' }
  await server.call(ada.token, 'POST', '/v1/auth/change-password', body)
  await page.goto('/prices')
  await page.getByText('Your session has ended').waitFor()
  await page.getByLabel('Email').fill(ada.email)
  await page.getByLabel('Password').fill(PASSWORD + '!')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.waitForURL('**/prices')
  await page.getByRole('heading', { name: 'Prices', exact: true }).waitFor()
  await context.close()
})

test('a session that ends under an open page leads to sign-in with the next call, and back to the same page', async () => {
  const ada = await account()
  await server.agent(ada).start('somebody')
  const { page, context } = await visit(browser, server, ada)
  await page.goto('/users?sort=newest')
  await settled(page)
  // Only when the page has asked: it would also hear of it by the end of its stream.
  const changed = async (route: Route) => {
    const body = { current_password: PASSWORD, new_password: PASSWORD + '!' }
    await server.call(ada.token, 'POST', '/v1/auth/change-password', body)
    await route.continue()
  }
  await page.route('**/v1/blocked-users', changed, { times: 1 })
  await page.getByRole('button', { name: 'Block somebody' }).click()
  await page.getByText('Your session has ended').waitFor()
  await page.getByLabel('Email').fill(ada.email)
  await page.getByLabel('Password').fill(PASSWORD + '!')
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.waitForURL('**/users?sort=newest')
  // It was not blocked meanwhile, and now can be.
  await page.getByRole('button', { name: 'Block somebody' }).click()
  await page.getByRole('button', { name: 'Unblock somebody' }).waitFor()
  await context.close()
})

test('a lost connection is a small line, and what was missed is there when it is back', async () => {
  const own = await Server.start()
  try {
    const ada = await own.account('ada@example.com')
    const { page, context } = await visit(browser, own, ada)
    await page.goto('/runs')
    await settled(page)
    await own.down('SIGKILL')
    await page.getByText('Connection lost').waitFor()
    await own.up()
    await own.agent(ada).start('user', { task: 'Missed meanwhile' })
    await page.getByText('Missed meanwhile').first().waitFor()
    await page.getByText('Connection lost').waitFor({ state: 'hidden' })
    await context.close()
  } finally {
    await own.close()
  }
})
