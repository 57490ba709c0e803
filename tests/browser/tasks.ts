// The tasks of docs/tasks.md, each with the test that does it and how many presses it may take.
import { readFileSync } from 'node:fs'
import type { BrowserContext, Page } from 'playwright-core'
import { expect } from 'vitest'

const table = readFileSync(new URL('../../docs/tasks.md', import.meta.url), 'utf8')

export const tasks = [...table.matchAll(/\| (\d+)[^|]*\|[^|]*\| `(\S+\.test\.ts)`: (.+?) \|$/gm)].map(([, most, file, name]) => ({
  most: Number(most),
  file: file!,
  name: name!,
}))

/** Counts in all pages of a person what they press: clicks, and keys that are not typed into a field. */
export async function countPresses(context: BrowserContext) {
  await context.addInitScript(() => {
    const count = () => sessionStorage.setItem('test.presses', String(Number(sessionStorage.getItem('test.presses') ?? 0) + 1))
    // Enter on a button is a click too, without a pointer.
    addEventListener('click', (event) => event.isTrusted && event.detail > 0 && count(), true)
    addEventListener(
      'keydown',
      (event) => {
        if (event.repeat || ['Control', 'Shift', 'Alt', 'Meta'].includes(event.key)) return
        const typed = event.key.length === 1 && !event.ctrlKey && (event.target as Element).matches('input, textarea')
        if (!typed) count()
      },
      true,
    )
  })
}

export const presses = (page: Page): Promise<number> => page.evaluate(() => Number(sessionStorage.getItem('test.presses') ?? 0))

/** Fails if the test that calls it took more presses than docs/tasks.md says; `besides` are those that are no part of the task. */
export async function withinLimit(page: Page, besides = 0) {
  const name = expect.getState().currentTestName
  const task = tasks.find((one) => one.name === name)
  expect(task, `docs/tasks.md names the test “${name}”`).toBeDefined()
  const taken = (await presses(page)) - besides
  expect(taken).toBeGreaterThan(0)
  expect(taken, `presses; docs/tasks.md says ${task!.most}`).toBeLessThanOrEqual(task!.most)
}
