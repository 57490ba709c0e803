// Every page at every width, on a screen, zoomed and on paper: nothing lies beyond the edge, nothing covers another
// thing, what is pressed can be hit, and no row loses what it is about.
import type { Browser, CDPSession, Page } from 'playwright-core'
import { extractText } from 'unpdf'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { flaws, losses } from './layout'
import { addressOf, visits } from './routes'
import { type Account, Server } from './server'

// Windows by their width. A browser that zooms gives the page so many times fewer pixels, and each so many times finer;
// below 320 of them nothing has to fit (WCAG 1.4.10).
const widths = [320, 360, 600, 768, 900, 1024, 1050, 1280, 1440, 1920]
const screens = [1, 2, 4].flatMap((zoom) => widths.filter((width) => width / zoom >= 320).map((width) => ({ width, zoom })))

let server: Server
let browser: Browser
let account: Account
let run: string
const reason = 'Loops without an end. '.repeat(22)

beforeAll(async () => {
  server = await Server.start()
  browser = await launch()
  account = await server.account('ada@example.com')
  const price = {
    input_cost_per_token: '0.0000025',
    output_cost_per_token: '0.00001',
  }
  await server.call(account.token, 'PUT', '/v1/model-pricing/gpt-4o', price)
  const agent = server.agent(account)
  // Two run, one was stopped, one has no title.
  for (const [n, metadata] of [
    { task: 'Find the prices of grid storage in Germany and compare them' },
    { task: 'Short' },
    undefined,
  ].entries()) {
    run = (await agent.start(`organisation-${n}/maria.kowalska`, metadata)).id
    await agent.step(run, 1, { model: 'gpt-4o' }, { prompt: 500, completion: 100 })
    await agent.step(run, 2, { tool_name: 'search' })
    if (n === 2) await server.call(account.token, 'PUT', '/v1/blocked-users/organisation-2%2Fmaria.kowalska', { reason })
    if (n === 2) await agent.step(run, 3, { tool_name: 'search' })
  }
  await server.reviews(account, 'organisation-3/maria.kowalska', reason)
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

/** Sets the window's size and zoom, and waits until what measures itself has learnt of it. */
async function resize(page: Page, inspector: CDPSession, width: number, zoom: number) {
  await inspector.send('Emulation.setDeviceMetricsOverride', {
    width: Math.round(width / zoom),
    height: Math.round(900 / zoom),
    deviceScaleFactor: zoom,
    mobile: false,
  })
  // The browser answers before the page knows. Then charts and tables that overflow learn their size from an observer.
  await page.waitForFunction((width) => innerWidth === width, Math.round(width / zoom))
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))
}

test.each(visits)('%s (signed in: %s) is whole at every width and zoom, light and dark, and on paper', async (path, signedIn) => {
  const { page, context, troubles } = await visit(browser, server, signedIn ? account : undefined)
  const inspector = await context.newCDPSession(page)
  await page.goto(addressOf(path, run, 'organisation-3/maria.kowalska'))
  await settled(page)
  if (path === '/overview') await page.locator('canvas').waitFor()
  const found: string[] = []
  // A theme is nothing but colours (policy.test.ts of the dashboard), so that each size is looked at in one of them. The
  // API reference, which is no list of data, takes as long to look at as all other pages together.
  for (const { width, zoom } of path === '/docs' ? screens.filter(({ width }) => width === 1280) : screens) {
    await page.emulateMedia({ colorScheme: zoom === 1 ? 'light' : 'dark' })
    await resize(page, inspector, width, zoom)
    const wrong = await page.evaluate(flaws)
    if (path === '/runs' || path === '/overview') wrong.push(...(await page.evaluate(losses, ['Find the prices', 'Short'])))
    found.push(...wrong.map((flaw) => `${width} px at ${zoom * 100} %: ${flaw}`))
  }
  await page.emulateMedia({ colorScheme: null })
  // Paper is laid out anew without a word to the page, from whatever it was on the screen.
  for (const width of signedIn && path !== '/docs' ? [1440, 390] : []) {
    await resize(page, inspector, width, 1)
    found.push(...(await printed(page)).map((flaw) => `printed from ${width} px: ${flaw}`))
  }
  expect(found.join('\n')).toBe('')
  expect(troubles).toEqual([])
  await context.close()
})

/** The figures that a page shows, but for those of controls, and ages, which change. Runs in the page. */
function figures(): string[] {
  const texts = document.createTreeWalker(document.querySelector('main')!, NodeFilter.SHOW_TEXT)
  const found = new Set<string>()
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    const element = node.parentElement!
    if (element.closest('.button, .segments, .tools, [role=search], button, option, time, .unseen, svg, [aria-hidden=true], .axis')) continue
    if (!element.checkVisibility({ visibilityProperty: true })) continue
    for (const [figure] of node.textContent!.matchAll(/\$?\d[\d,.]*\d|\d/g)) found.add(figure)
  }
  return [...found]
}

/** What stands on the sheets that the browser prints. */
async function onPaper(page: Page): Promise<string> {
  const sheets = await page.pdf({ preferCSSPageSize: true })
  return (await extractText(new Uint8Array(sheets), { mergePages: true })).text
}

/** What is wrong with a page on paper: a figure of the screen is missing, what it would print is cut at the edge, or covered by what floats. */
async function printed(page: Page): Promise<string[]> {
  const onScreen = await page.evaluate(figures)
  await page.emulateMedia({ media: 'print' })
  const found = await page.evaluate(async () => {
    await Promise.allSettled(document.getAnimations().map(({ finished }) => finished))
    const wrong: string[] = []
    for (const element of document.querySelectorAll('body *')) {
      if (getComputedStyle(element).position !== 'fixed' || !element.checkVisibility()) continue
      if (element.getBoundingClientRect().height > 0 && element.textContent.trim()) wrong.push(`floats: ${element.className}`)
    }
    const main = document.querySelector('main')!
    main.style.width = '1195px' // a sheet of paper without its margins, as print makes it smaller
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
    for (const canvas of main.querySelectorAll('canvas')) {
      const drawn = canvas.getBoundingClientRect()
      for (let box = canvas.parentElement; box && box !== main; box = box.parentElement) {
        const inside = box.getBoundingClientRect()
        if (drawn.right > inside.right + 1 || drawn.bottom > inside.bottom + 1) wrong.push(`the chart is cut by ${box.className}`)
      }
    }
    main.style.width = ''
    return wrong
  })
  await page.emulateMedia({ media: null })
  // A table's figure is a word of its own, one of a sentence may stand beside a mark.
  const sheets = await onPaper(page)
  const still = new Set(await page.evaluate(figures)) // what counts the seconds has gone on
  const written = new Set(sheets.match(/\$?\d[\d,.]*\d|\d/g))
  found.push(...onScreen.filter((figure) => still.has(figure) && !written.has(figure)).map((figure) => `${figure} is not on paper`))
  return found
}
