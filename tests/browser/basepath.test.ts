// The dashboard below a path of somebody else's origin, behind an nginx that strips the prefix: nothing of the
// dashboard may ask for anything above it.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { addressOf, routes } from './routes'
import { type Account, PASSWORD, Server, freePort, until } from './server'

const base = '/pikarc'
let server: Server
let nginx: ChildProcess
let front: { url: string }
let dir: string
let browser: Browser
let account: Account

beforeAll(async () => {
  server = await Server.start('--base-path', base, '--trusted-proxies', '127.0.0.1,::1')
  account = await server.account('ada@example.com')
  const port = await freePort()
  dir = await mkdtemp(join(tmpdir(), 'pikarc-nginx-'))
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((n) => `${n}_temp_path ${dir}/${n};`)
  const config = `daemon off; pid ${dir}/pid; error_log stderr; events {}
    http { access_log off; ${temporary.join(' ')}
      server { listen 127.0.0.1:${port}; listen [::1]:${port};
        location ${base}/ { proxy_pass ${server.url}/; proxy_http_version 1.1; } } }`
  await writeFile(join(dir, 'nginx.conf'), config)
  nginx = spawn('nginx', ['-e', 'stderr', '-p', dir, '-c', join(dir, 'nginx.conf')], { stdio: 'ignore' })
  front = { url: `http://localhost:${port}` }
  await until('nginx to answer', async () => (await fetch(front.url + base + '/health').catch(() => null))?.ok ?? false)
  browser = await launch()
})

afterAll(async () => {
  await browser?.close()
  nginx?.kill()
  await server?.close()
  await rm(dir, { recursive: true, force: true })
})

/** Links and requests that leave the path. */
async function strays(page: Page): Promise<string[]> {
  const hrefs = await page.$$eval('a[href]', (links) => links.map((a) => a.getAttribute('href')!))
  return hrefs.filter((href) => href.startsWith('/') && !href.startsWith(base + '/'))
}

test('one signs in, follows links, reloads, goes back and signs out below the path', async () => {
  const { page, context, troubles } = await visit(browser, front as Server)
  const outside: string[] = []
  page.on('request', (request) => {
    if (!request.url().startsWith(front.url + base + '/')) outside.push(request.url())
  })
  await page.goto(base + '/runs')
  await page.waitForURL(`**${base}/sign-in?next=%2Fruns`)
  await page.getByLabel('Email').fill(account.email)
  await page.getByLabel('Password').fill(PASSWORD)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.waitForURL(`**${base}/runs`)
  await settled(page)
  // The stream is open: a run comes by itself.
  const run = await server.agent(account).start('ada', { task: 'Below a path' })
  await page.getByRole('link', { name: 'Below a path' }).click()
  await page.waitForURL(`**${base}/runs/${run.id}`)
  await page.reload()
  await page.getByRole('heading', { name: 'Below a path' }).waitFor()
  await page.goBack()
  await page.waitForURL(`**${base}/runs`)
  await page.keyboard.press('g')
  await page.keyboard.press('o')
  await page.waitForURL(`**${base}/overview`)
  expect(await page.evaluate(() => Object.keys(localStorage))).toContain('pikarc.token' + base)
  await page.goto(base + '/account')
  await settled(page)
  await page.getByRole('button', { name: 'Sign out', exact: true }).first().click()
  await page.waitForURL(`**${base}/sign-in`)
  expect(outside).toEqual([])
  expect(troubles).toEqual([])
  await context.close()
})

test('no page links above the path, and agents are told the whole address', async () => {
  const { page, context, troubles } = await visit(browser, front as Server)
  const token = [`pikarc.token${base}`, account.token] as const
  await context.addInitScript(([key, value]) => localStorage.setItem(key, value), token)
  const { id } = await server.agent(account).start('bob')
  for (const { path } of routes.filter(({ access }) => access !== 'outside')) {
    await page.goto(base + addressOf(path, id, 'bob'))
    await settled(page)
    expect(await strays(page), path).toEqual([])
    expect(new URL(page.url()).pathname, path).toBe(base + addressOf(path, id, 'bob'))
    const text = await page.locator('main').textContent()
    if (path === '/docs') expect(text).toContain(`${front.url}${base}/v1/runs/`)
    if (path === '/welcome') expect(text).toContain(`export PIKARC_BASE_URL=${front.url}${base}`)
  }
  expect(troubles).toEqual([])
  await context.close()
})
