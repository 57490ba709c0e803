// How fast the dashboard is, by the browser's own figures with the processor slowed down four times:
// `make dashboard-performance`. It prints and judges nothing: machines differ, and one differs from minute to minute.
import type { Page } from 'playwright-core'
import { test } from 'vitest'
import { launch, settled, visit } from './browser'
import { type Agent, Server } from './server'

const STEPS = 50_000

test('figures', async () => {
  const server = await Server.start()
  const browser = await launch()
  try {
    const account = await server.account('ada@example.com')
    const agent = server.agent(account)
    const { id } = await agent.start('user', { task: 'A long run' })
    for (let n = 0; n < STEPS; n += 250) await Promise.all(Array.from({ length: 250 }, (_, i) => long(agent, id, n + i + 1)))
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
    const began = Date.now()
    await page.goto(`/runs/${id}`)
    await settled(page)
    await page.waitForFunction((steps) => document.querySelector(`main [aria-setsize="${steps}"]`) !== null, STEPS)
    console.log(`all ${STEPS} steps read after ${Date.now() - began} ms, without slowing down`)
    for (const busy of [false, true]) {
      const calls = busy ? calling(agent) : null
      const frames = await page.evaluate(scroll, 400)
      await calls?.()
      const while_ = busy ? ' while 100 events a second arrive' : ''
      console.log(`scrolling through ${STEPS} steps${while_}: ${frames.count} frames, 99 % within ${frames.most} ms, the longest ${frames.longest} ms`)
    }
    await context.close()
  } finally {
    await browser.close()
    await server.close()
  }
}, 900_000)

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

/** A step of a run that no fold hides. */
function long(agent: Agent, run: string, n: number) {
  return agent.step(run, n, { model: 'gpt-4o', input_data: { question: `Number ${n}` } }, { prompt: 5, output: 'An answer' })
}

/** Makes some 100 events a second in other runs; returns a function that ends it. */
function calling(agent: Agent): () => Promise<void> {
  let over = false
  const work = (async () => {
    const { id } = await agent.start('another')
    for (let n = 1; !over; n += 10) {
      await Promise.all(Array.from({ length: 10 }, (_, i) => long(agent, id, n + i)))
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  })()
  return () => {
    over = true
    return work
  }
}

/** Scrolls from the first row to the last in so many frames. */
function scroll(frames: number): Promise<{ count: number; most: number; longest: number }> {
  return new Promise((resolve) => {
    const root = document.scrollingElement!
    root.scrollTop = 0
    const by = (root.scrollHeight - innerHeight) / frames
    const took: number[] = []
    let last = 0
    const next = (now: number) => {
      if (last) took.push(now - last)
      last = now
      root.scrollTop += by
      if (root.scrollTop < root.scrollHeight - innerHeight - 1 && took.length < frames * 2) return requestAnimationFrame(next)
      took.sort((a, b) => a - b)
      resolve({ count: took.length, most: Math.round(took[Math.floor(took.length * 0.99)]!), longest: Math.round(took.at(-1)!) })
    }
    requestAnimationFrame(next)
  })
}
