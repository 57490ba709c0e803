// Debian's Chromium, and pages that tell what must never happen: errors, refused styles or scripts, other hosts.
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Page } from 'playwright-core'
import type { Account, Server } from './server'
import { countPresses } from './tasks'

const args = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

export function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args })
}

export type Visit = { page: Page; context: BrowserContext; troubles: string[] }

/** A browser of its own for one person; signed in when an account is given. */
export async function visit(
  browser: Browser,
  server: Server,
  account?: Account,
  options: BrowserContextOptions = {},
): Promise<Visit> {
  const context = await browser.newContext({
    baseURL: server.url,
    viewport: { width: 1280, height: 900 },
    reducedMotion: 'reduce',
    ...options,
  })
  context.setDefaultTimeout(30_000)
  if (account) await context.addInitScript(signIn, account.token)
  await countPresses(context)
  const troubles: string[] = []
  const page = await context.newPage()
  watch(page, server, troubles)
  return { page, context, troubles }
}

// Once a tab, so that signing out stays signed out.
function signIn(token: string) {
  if (sessionStorage.getItem('test.signed-in')) return
  sessionStorage.setItem('test.signed-in', 'yes')
  localStorage.setItem('pikarc.token', token)
}

function watch(page: Page, server: Server, troubles: string[]) {
  page.on('pageerror', (error) => troubles.push(`error: ${error.message}`))
  page.on('console', (message) => {
    const text = message.text()
    // The browser itself logs each answer with an error status, and each lost connection: tests cause those.
    if (/^Failed to load resource|net::ERR_/.test(text)) return
    if (message.type() === 'error' || message.type() === 'warning') troubles.push(`console: ${text}`)
  })
  page.on('request', (request) => {
    const url = request.url()
    if (!url.startsWith(server.url) && !url.startsWith('data:') && !url.startsWith('blob:')) {
      troubles.push(`a request to another host: ${url}`)
    }
  })
}

/** How a page shows the text of a stranger: the mark that turns the direction of a line is written out. */
export function shown(text: string): string {
  return text.replaceAll('\u202E', '⟨U+202E⟩')
}

/** Waits until what a page reads first has come. */
export async function settled(page: Page) {
  await page.waitForFunction(
    () => document.querySelector('h1') !== null && document.querySelector('.skeleton') === null,
  )
}

const axeFile = createRequire(import.meta.url).resolve('axe-core/axe.min.js')

/** What axe-core finds wrong with a page: by all its rules, or by those that are named. */
export async function violations(page: Page, rules: string[] = []) {
  // Through the debugger, which the Content-Security-Policy does not bind.
  const inspector = await page.context().newCDPSession(page)
  const evaluate = async (expression: string) =>
    (await inspector.send('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true })).result.value
  if (!(await evaluate('"axe" in window'))) await evaluate((await readFile(axeFile, 'utf8')) + ';0')
  const options = rules.length ? { runOnly: { type: 'rule', values: rules } } : {}
  const found = await evaluate(
    `axe.run(${JSON.stringify(options)}).then((r) => r.violations.map((v) => v.id + ": " + v.nodes[0].html + v.nodes[0].any[0].message))`,
  )
  await inspector.detach()
  return found
}
