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
      const steps: number[] = []
      for (let round = 0; round < 5; round++) {
        const { page, context } = await visit(browser, server, path === '/sign-in' ? undefined : account)
        await slow(page)
        await page.addInitScript(watchReadiness)
        // The page says so itself: what is asked from outside, it would have to run.
        const said = page.waitForEvent('console', { predicate: (message) => message.text() === 'ready', timeout: 120_000 })
        await page.goto(path)
        await said
        const times = await page.evaluate(() => (window as unknown as { shownAt: { all: number; steps?: number } }).shownAt)
        ready.push(times.all)
        if (times.steps) steps.push(times.steps)
        paints.push(
          await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN),
        )
        await context.close()
      }
      const name = path.replace(id, '{id}')
      const rows = steps.length ? `, the first steps ${median(steps)} ms` : ''
      console.log(`${name}: first paint ${median(paints)} ms${rows}, all it shows first ${median(ready)} ms`)
    }
    const { page, context } = await visit(browser, server, account)
    const began = Date.now()
    await page.goto(`/runs/${id}`)
    await settled(page)
    await page.waitForFunction((steps) => document.querySelector(`main [aria-setsize="${steps}"]`) !== null, STEPS)
    console.log(`all ${STEPS} steps read after ${Date.now() - began} ms, without slowing down`)
    for (const where of ['nothing', 'other runs', 'this run']) {
      const calls = where === 'nothing' ? null : calling(agent, where === 'this run' ? id : null)
      const scrolled = await page.evaluate(scroll, 400)
      const hovered = await hover(page)
      await calls?.()
      const while_ = calls ? `, while 100 events a second arrive of ${where}` : ''
      console.log(`scrolling through ${STEPS} steps${while_}: ${said(scrolled)}; hovering: ${said(hovered)}`)
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

/** Notes in the page itself when its first steps, and all that it shows first, are there. */
function watchReadiness() {
  const shownAt: { all?: number; steps?: number } = {}
  ;(window as unknown as { shownAt: object }).shownAt = shownAt
  const look = () => {
    if (document.querySelector('main [aria-setsize]')) shownAt.steps ??= performance.now()
    if (!document.querySelector('h1') || document.querySelector('.skeleton')) return requestAnimationFrame(look)
    shownAt.all = performance.now()
    console.log('ready')
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

/** Makes some 100 events a second, in a run or in another one; returns a function that ends it. */
function calling(agent: Agent, run: string | null): () => Promise<void> {
  let over = false
  const work = (async () => {
    const id = run ?? (await agent.start('another')).id
    for (let n = STEPS + 1; !over; n += 10) {
      await Promise.all(Array.from({ length: 10 }, (_, i) => long(agent, id, n + i)))
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  })()
  return () => {
    over = true
    return work
  }
}

type Frames = { count: number; most: number; longest: number; late: number }

const said = ({ count, most, longest, late }: Frames) =>
  `${count} frames, 99 % within ${most} ms, the longest ${longest} ms, ${late} over 50 ms`

/** Moves the pointer over the rows for three seconds. */
async function hover(page: Page): Promise<Frames> {
  await page.evaluate(() => {
    const took: number[] = []
    let last = 0
    const next = (now: number) => {
      if (last) took.push(now - last)
      last = now
      if (!('over' in took)) requestAnimationFrame(next)
    }
    ;(window as unknown as { frames: number[] }).frames = took
    requestAnimationFrame(next)
  })
  const end = Date.now() + 3000
  for (let y = 200; Date.now() < end; y = y > 800 ? 200 : y + 9) await page.mouse.move(500, y)
  return page.evaluate(() => {
    const took = (window as unknown as { frames: number[] }).frames
    Object.assign(took, { over: true })
    const sorted = [...took].sort((a, b) => a - b)
    const [most, longest] = [sorted[Math.floor(sorted.length * 0.99)]!, sorted.at(-1)!]
    return { count: sorted.length, most: Math.round(most), longest: Math.round(longest), late: took.filter((ms) => ms > 50).length }
  })
}

/** Scrolls from the first row to the last in so many frames. */
function scroll(frames: number): Promise<Frames> {
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
      resolve({ count: took.length, most: Math.round(took[Math.floor(took.length * 0.99)]!), longest: Math.round(took.at(-1)!), late: took.filter((ms) => ms > 50).length })
    }
    requestAnimationFrame(next)
  })
}
