// Every page at every width, on a screen, zoomed and on paper: nothing lies beyond the edge, nothing covers another
// thing, and no row loses what it is about.
import type { Browser, Page } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, visit } from './browser'
import { addressOf, routes } from './routes'
import { type Account, Server } from './server'

// 640 is 1,280 px at 200 %, 718 the width of a sheet of A4.
const widths = [320, 360, 512, 600, 640, 718, 720, 768, 900, 1024, 1050, 1280, 1440, 1920]

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

/** What is wrong with how a page is laid out. Runs in the page. */
function flaws(): string[] {
  const found: string[] = []
  const beyond = document.documentElement.scrollWidth - innerWidth
  if (beyond > 0) found.push(`${beyond} px beyond the edge`)
  const name = (element: Element) => `<${element.tagName.toLowerCase()}> “${element.textContent.trim().replace(/\s+/g, ' ').slice(0, 40)}”`
  const overlap = (one: DOMRect, other: DOMRect) =>
    Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1 &&
    Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 1
  const inked = (element: Element) => {
    const range = document.createRange()
    range.selectNodeContents(element)
    return range.getBoundingClientRect()
  }
  for (const row of document.querySelectorAll('main tr')) {
    const cells = [...row.children].filter((cell) => getComputedStyle(cell).display !== 'none' && cell.textContent.trim())
    for (const [i, cell] of cells.entries()) {
      const box = cell.getBoundingClientRect()
      if (box.width < 24) found.push(`${name(cell)} has ${Math.round(box.width)} px`)
      const clipped = cell.querySelector('.clip') !== null
      for (const other of cells.slice(i + 1)) {
        if (!clipped && overlap(inked(cell), inked(other))) found.push(`${name(cell)} lies over ${name(other)}`)
      }
    }
    if (row.getBoundingClientRect().height > 240) found.push(`${name(row)} fills ${Math.round(row.getBoundingClientRect().height)} px`)
  }
  // Of a rule each part has a column that it fits: a figure is not broken by its digits, nor a sentence by its letters.
  for (const cell of document.querySelectorAll('main .rule-line > :not(.number)')) {
    const text = (cell as HTMLElement).innerText?.trim() ?? ''
    const { width } = cell.getBoundingClientRect()
    if (width > 0 && text && width < (text.length > 12 ? 40 : 24)) found.push(`${name(cell)} has ${Math.round(width)} px`)
  }
  // Every time says its zone, in its words or, for ages, in its title. Examples of code have their own.
  for (const time of document.querySelectorAll('main time')) {
    if (!/UTC/.test(time.textContent + (time.getAttribute('title') ?? ''))) found.push(`${name(time)} has no zone`)
  }
  const texts = document.createTreeWalker(document.querySelector('main')!, NodeFilter.SHOW_TEXT)
  for (let node = texts.nextNode(); node; node = texts.nextNode()) {
    if (/\b\d{1,2}:\d{2}\b/.test(node.textContent!) && !/UTC/.test(node.textContent!) && !node.parentElement!.closest('pre, code'))
      found.push(`“${node.textContent}” has no zone`)
  }
  // Whatever is pressed can be hit: 24 × 24 px, but for links within a sentence (WCAG 2.5.8).
  for (const link of document.querySelectorAll('main :is(a, button, select, summary)')) {
    if (!(link as HTMLElement).checkVisibility({ visibilityProperty: true })) continue
    const words = [...link.parentElement!.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent!.trim())
    if (getComputedStyle(link).display === 'inline' && (words || link.closest('p, li, dd'))) continue
    const box = link.getBoundingClientRect()
    if (box.width < 24 || box.height < 24) found.push(`${name(link)} has ${Math.round(box.width)} × ${Math.round(box.height)} px`)
  }
  return found
}

/** What the rows of runs lack of that by which one knows a run. Runs in the page. */
function losses(titles: string[]): string[] {
  const rows = [...document.querySelectorAll('main tbody tr')].filter((row) => row.querySelector('a[href*="/runs/"]'))
  const seen = (element: Element | null) => {
    const box = element?.getBoundingClientRect()
    return Boolean(box && box.width >= 40 && box.height > 8 && (element as HTMLElement).checkVisibility({ visibilityProperty: true }))
  }
  const lost = titles.filter((title) => !rows.some((row) => row.textContent.includes(title)))
  for (const row of rows) {
    const about = row.textContent.trim().replace(/\s+/g, ' ').slice(0, 60)
    if (!seen(row.querySelector('a[href*="/runs/"]'))) lost.push(`no link: ${about}`)
    const users = [...row.querySelectorAll('bdi')].filter((text) => text.textContent.includes('maria.kowalska'))
    if (!users.some(seen)) lost.push(`no user: ${about}`)
  }
  return lost
}

async function check(page: Page, path: string, width: number) {
  const found = await page.evaluate(flaws)
  if (path === '/runs' || path === '/overview') found.push(...(await page.evaluate(losses, ['Find the prices', 'Short'])))
  return found.map((flaw) => `${width} px: ${flaw}`)
}

test.each(routes.filter(({ access }) => access !== 'outside').map(({ path }) => path))(
  '%s is whole at every width and on paper',
  async (path) => {
    const { page, context, troubles } = await visit(browser, server, account)
    await page.goto(addressOf(path, run, 'organisation-3/maria.kowalska'))
    await settled(page)
    if (path === '/overview') await page.locator('canvas').waitFor()
    const found: string[] = []
    for (const width of widths) {
      await page.setViewportSize({ width, height: 900 })
      // Charts and tables that overflow learn their size from an observer.
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))
      found.push(...(await check(page, path, width)))
    }
    // Paper is laid out anew without a word to the page, from whatever it was on the screen.
    for (const width of [1440, 390]) {
      await page.setViewportSize({ width, height: 900 })
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))
      found.push(...(await printed(page, path)).map((flaw) => `printed from ${width} px: ${flaw}`))
    }
    expect(found.join('\n')).toBe('')
    expect(troubles).toEqual([])
    await context.close()
  },
)

/** The amounts of money that can be read. Runs in the page. */
function figures(): string[] {
  return (document.querySelector('main') as HTMLElement).innerText.match(/\$[\d,]+(\.\d+)?/g) ?? []
}

/** What is wrong with a page on paper: a figure of the screen is missing, what it would print is cut at the edge, or covered by what floats. */
async function printed(page: Page, path: string): Promise<string[]> {
  const onScreen = await page.evaluate(figures)
  await page.emulateMedia({ media: 'print' })
  const sheet = page.viewportSize()!
  const found = await page.evaluate(async (overview) => {
    const main = document.querySelector('main')!
    main.style.width = '718px'
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
    await Promise.all(document.getAnimations().map(({ finished }) => finished))
    const wrong: string[] = []
    for (const element of document.querySelectorAll('body *')) {
      const style = getComputedStyle(element)
      if (
        style.position === 'fixed' &&
        style.display !== 'none' &&
        element.getBoundingClientRect().height > 0 &&
        element.textContent.trim() &&
        element.checkVisibility()
      )
        wrong.push(`floats: ${element.className}`)
    }
    if (overview) {
      const canvas = document.querySelector('main canvas')!.getBoundingClientRect()
      let box = document.querySelector('main canvas')!.parentElement
      for (; box && box !== main; box = box.parentElement) {
        const inside = box.getBoundingClientRect()
        if (canvas.right > inside.right + 1 || canvas.bottom > inside.bottom + 1) wrong.push(`the chart is cut by ${box.className}`)
      }
    }
    main.style.width = ''
    return wrong
  }, path === '/overview')
  // The chart is drawn, so that its axis is no text; what is written as text is on the sheet too.
  const onPaper = new Set(await page.evaluate(figures))
  found.push(...onScreen.filter((figure) => !onPaper.has(figure)).map((figure) => `${figure} is not on paper`))
  await page.emulateMedia({ media: null })
  await page.setViewportSize(sheet)
  return found
}
