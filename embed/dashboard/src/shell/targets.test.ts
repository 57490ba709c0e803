import { expect, test } from 'vitest'
import { isRunId, marked, matching } from './targets'

const targets = ['API keys', 'Overview', 'Limits', 'First run', 'Runs'].map((title) => ({
  group: 'Pages',
  title,
  path: '/' + title,
}))
const titles = (typed: string) => matching(targets, typed).map(({ title }) => title)

test('what begins with the word comes before what has it within', () => {
  expect(titles('run')).toEqual(['Runs', 'First run'])
  expect(titles(' KEY api ')).toEqual(['API keys'])
  expect(titles('')).toHaveLength(5)
  expect(titles('run x')).toEqual([])
})

test('what was typed is marked', () => {
  expect(marked('contoso/j.tanaka', 'TANA')).toEqual([
    { text: 'contoso/j.', hit: false },
    { text: 'tana', hit: true },
    { text: 'ka', hit: false },
  ])
  expect(marked('x', 'y')).toEqual([{ text: 'x', hit: false }])
})

test('a run is found by its whole id', () => {
  expect(isRunId(' 01A1F8D3-ea00-7c31-9f0a-6a1f0b8e4d53')).toBe(true)
  expect(isRunId('01a1f8d3')).toBe(false)
})
