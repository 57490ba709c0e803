// Who changed what: what was done on other pages and by others is told in words.
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch, settled, shown, visit } from './browser'
import { Server } from './server'

let server: Server
let browser: Browser

beforeAll(async () => {
  server = await Server.start()
  browser = await launch()
})

afterAll(async () => {
  await browser?.close()
  await server?.close()
})

test('changes are told with who, what, from what to what; filters and pages are in the address', async () => {
  const ada = await server.account('ada@example.com')
  const { page, context, troubles } = await visit(browser, server, ada)
  await page.goto('/audit')
  await settled(page)
  const newest = page.locator('tbody tr').first()
  await server.call(ada.token, 'PATCH', '/v1/workspace/', { daily_budget_usd: '25' })
  // It comes in without a reload.
  await newest.getByText('Changed the settings').waitFor()
  expect(await newest.textContent()).toMatch(/ada@example\.com.*Daily budget:\s*none\s*→.*\$25\.00/)
  expect(await newest.locator('time').getAttribute('title')).toMatch(/ UTC$/)

  const hostile = '<img src=x onerror="document.title=\'owned\'">\u202Egnp.exe'
  const admin = await server.call(ada.token, 'POST', '/v1/api-keys/', { label: 'terraform', scope: 'admin' })
  await newest.getByText('Created the API key').waitFor()
  await server.call(admin.key, 'PUT', '/v1/blocked-users/' + encodeURIComponent(hostile), { reason: hostile })
  await newest.getByText(shown(hostile)).first().waitFor()
  expect(await newest.textContent()).toContain('API key')

  for (let n = 1; n <= 55; n++) await server.call(ada.token, 'PATCH', '/v1/workspace/', { daily_budget_usd: String(n) })
  await page.getByLabel('Action').selectOption('Limits and settings')
  await page.waitForURL(/action=workspace\.update/)
  await page.getByRole('link', { name: 'Next page' }).click()
  await page.waitForURL(/cursor=/)
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 6)
  await page.getByLabel('Action').selectOption('Plan')
  await page.getByText('No entry matches these filters.').waitFor()
  await page.getByRole('link', { name: 'Show all entries' }).click()
  await newest.waitFor()
  expect(await page.title()).not.toBe('owned')
  expect(troubles).toEqual([])
  await context.close()
})
