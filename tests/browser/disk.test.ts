// A disk without room: a person reads that, and not that something failed.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { PASSWORD, type Server, freePort, until } from './server'

const binary = resolve(import.meta.dirname, process.env.PIKARC_BINARY ?? '../../pikarc')

test('a change that a full disk refuses says so, and works once there is room', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'pikarc-disk-'))
  const port = await freePort()
  // A disk of its own, seen by the server alone; who is not root may mount one in a namespace of users.
  const own = process.getuid!() === 0 ? ['--mount'] : ['--mount', '--map-root-user']
  const mount = 'mount -t tmpfs -o size=16m pikarc "$1" && exec "$2" serve --data-dir "$1" --addr "$3" --registration open'
  const child = spawn('unshare', [...own, 'sh', '-c', mount, 'sh', dir, binary, `localhost:${port}`], { stdio: 'ignore' })
  const browser = await launch()
  try {
    const url = `http://localhost:${port}`
    await until('the server to answer', async () => {
      if (child.exitCode !== null) throw new Error('the server ended')
      return (await fetch(url + '/health').catch(() => null))?.ok ?? false
    })
    const call = (method: string, path: string, body: object, token = '') =>
      fetch(url + path, {
        method,
        headers: { 'Content-Type': 'application/json', ...(token && { Authorization: `Bearer ${token}` }) },
        body: JSON.stringify(body),
      })
    const email = 'ada@example.com'
    const registered = await (await call('POST', '/v1/auth/register', { email, password: PASSWORD })).json()
    const account = { email, apiKey: registered.api_key.key, token: registered.access_token }
    const { page, context, troubles } = await visit(browser, { url } as Server, account)
    await page.goto('/limits?rule=daily-budget')
    await settled(page)

    const filler = `/proc/${child.pid}/root${dir}/filler`
    await fill(filler)
    const field = page.getByRole('textbox', { name: 'Daily budget', exact: true })
    // What is rewritten in place still fits for some changes.
    let budget = 0
    await until('the disk to be full', async () => {
      await field.fill(String(++budget))
      const answer = page.waitForResponse('**/v1/workspace/')
      await page.getByRole('button', { name: 'Save: Daily budget', exact: true }).click()
      return (await answer).status() === 503
    })
    await page.getByText("The server's disk is full. Nothing was recorded; try again when its operator has made room.").waitFor()
    expect(await field.inputValue()).toBe(String(budget))

    await rm(filler)
    await page.getByRole('button', { name: 'Save: Daily budget', exact: true }).click()
    await page.getByText('Daily budget saved.').first().waitFor()
    expect(await page.getByText('disk is full').count()).toBe(0)
    expect(troubles).toEqual([])
    await context.close()
  } finally {
    await browser.close()
    if (child.exitCode === null) {
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
    await rm(dir, { recursive: true, force: true })
  }
})

/** Writes a file until nothing more fits. */
async function fill(path: string) {
  const file = await open(path, 'w')
  try {
    for (let size = 1 << 20; size >= 512; size /= 2) {
      const block = Buffer.alloc(size)
      for (;;) {
        const written = await file.write(block).catch((error) => {
          if (error.code === 'ENOSPC') return { bytesWritten: 0 }
          throw error
        })
        if (written.bytesWritten < size) break
      }
    }
  } finally {
    await file.close()
  }
}
