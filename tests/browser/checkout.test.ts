// Buying a plan, up to Stripe's own page and back: a stand-in speaks Stripe's wire format on a real socket.
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { freePort, Server, until } from './server'

const root = resolve(import.meta.dirname, '../..')

let dir: string
let stripe: ChildProcess
let server: Server
let browser: Browser

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pikarc-stripe-'))
  // Built, not run by `go run`, so that the process is the one to end.
  const build = spawn('go', ['build', '-o', join(dir, 'stripe'), './testdata/stripe/run'], { cwd: root, stdio: 'inherit' })
  expect((await once(build, 'exit'))[0]).toBe(0)
  const [port, serverPort] = [await freePort(), await freePort()]
  const url = `http://localhost:${serverPort}`
  stripe = spawn(join(dir, 'stripe'), ['-addr', `localhost:${port}`, '-webhook', `${url}/v1/billing/webhook`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let said = ''
  stripe.stdout!.on('data', (text) => (said += text))
  await until('the stand-in to say its settings', () => said.includes('PIKARC_PUBLIC_URL'))
  const env = Object.fromEntries([...said.matchAll(/(PIKARC_\w+)=(\S+)/g)].map(([, name, value]) => [name!, value!]))
  server = await Server.startWith({ ...env, PIKARC_PUBLIC_URL: url }, serverPort)
  browser = await launch()
}, 180_000)

afterAll(async () => {
  await browser?.close()
  await server?.close()
  if (stripe) {
    const exit = once(stripe, 'exit')
    stripe.kill('SIGTERM')
    await exit
  }
  await rm(dir, { recursive: true, force: true })
})

test('a plan is bought: from the button to the page of Stripe, and back with the plan', async () => {
  const account = await server.account('ada@example.com', 'basic')
  const { page, context } = await visit(browser, server, account)
  await page.goto('/plan')
  await settled(page)
  await page.getByRole('button', { name: 'Upgrade to Pro' }).click()
  await page.waitForURL((url) => url.origin !== new URL(server.url).origin)
  await page.getByRole('button').first().click()
  await page.waitForURL((url) => url.origin === new URL(server.url).origin)
  await until('the workspace to have the plan', async () => {
    const { plan } = await server.call(account.apiKey, 'GET', '/v1/workspace/')
    return plan === 'pro'
  })
  await page.goto('/plan')
  await settled(page)
  await page.getByRole('button', { name: 'Manage subscription' }).waitFor()
  await context.close()
})
