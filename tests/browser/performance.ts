// How fast the dashboard is, by the browser's own figures with the processor slowed down four times:
// `make dashboard-performance`. It prints and judges nothing: machines differ, and one differs from minute to minute.
import type { Page } from 'playwright-core'
import { test } from 'vitest'
import { launch, settled, visit } from './browser'
import { Server } from './server'

const STEPS = 2000

test('figures', async () => {
  const server = await Server.start()
  const browser = await launch()
  try {
    const account = await server.account('ada@example.com')
    const agent = server.agent(account)
    const { id } = await agent.start('user', { task: 'A long run' })
    for (let n = 0; n < STEPS; n += 50) {
      await Promise.all(Array.from({ length: 50 }, (_, i) => agent.step(id, n + i + 1, { model: 'gpt-4o' }, { prompt: 5 })))
    }
    for (const path of ['/sign-in', '/overview', '/runs', `/runs/${id}`]) {
      const paints: number[] = []
      const ready: number[] = []
      for (let round = 0; round < 5; round++) {
        const { page, context } = await visit(browser, server, path === '/sign-in' ? undefined : account)
        await slow(page)
        await page.addInitScript(watchReadiness)
        await page.goto(path)
        await page.waitForFunction(() => 'readyAt' in window, null, { polling: 500 })
        ready.push(await page.evaluate(() => (window as unknown as { readyAt: number }).readyAt))
        paints.push(
          await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN),
        )
        await context.close()
      }
      const name = path.replace(id, '{id}')
      console.log(`${name}: first paint ${median(paints)} ms, all it shows first ${median(ready)} ms`)
    }
    const { page, context } = await visit(browser, server, account)
    await page.goto(`/runs/${id}`)
    await settled(page)
    // Later steps are read as the end comes near: this scrolls from the first to the last of them.
    const frames = await page.evaluate(scroll, STEPS)
    console.log(`scrolling through ${STEPS} steps: ${frames.count} frames, the longest ${frames.longest} ms`)
    await context.close()
  } finally {
    await browser.close()
    await server.close()
  }
}, 300_000)

async function slow(page: Page) {
  const inspector = await page.context().newCDPSession(page)
  await inspector.send('Emulation.setCPUThrottlingRate', { rate: 4 })
}

/** Notes in the page itself when all that it shows first is there: asking from outside would cost it time. */
function watchReadiness() {
  const look = () => {
    if (!document.querySelector('h1') || document.querySelector('.skeleton')) return requestAnimationFrame(look)
    ;(window as unknown as { readyAt: number }).readyAt = performance.now()
  }
  requestAnimationFrame(look)
}

function median(values: number[]): number {
  return Math.round(values.sort((a, b) => a - b)[Math.floor(values.length / 2)]!)
}

function scroll(steps: number): Promise<{ count: number; longest: number }> {
  return new Promise((resolve) => {
    const root = document.scrollingElement!
    let last = performance.now()
    let count = 0
    let longest = 0
    const next = (now: number) => {
      if (count++ > 1) longest = Math.max(longest, now - last)
      last = now
      const before = root.scrollTop
      root.scrollTop += 200
      const atEnd = root.scrollTop === before && document.querySelector(`main [aria-posinset="${steps}"]`) !== null
      if (!atEnd) return requestAnimationFrame(next)
      resolve({ count, longest: Math.round(longest) })
    }
    requestAnimationFrame(next)
  })
}
