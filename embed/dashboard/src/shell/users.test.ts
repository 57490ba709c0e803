import { expect, test } from 'vitest'
import { match } from './routes'
import { userOf, userPath } from './users'

test('a user has a page, whatever the id holds', () => {
  for (const id of [
    'bob',
    'acme/a b',
    'a//b',
    'x/../y',
    '用户-😀',
    '50%',
    '%2F',
    'q?x=1#y',
    '.x',
    'a/',
    'new\nline',
  ]) {
    const { pathname } = new URL(userPath(id), 'http://localhost')
    expect(userOf(pathname), id).toBe(id)
    expect(match(pathname)?.props.id, id).toBe(id)
  }
})

test('what browsers take for steps in a path stands in the query', () => {
  for (const id of ['.', '..']) {
    const url = new URL(userPath(id), 'http://localhost')
    expect(url.pathname).toBe('/users/-')
    expect(url.searchParams.get('id')).toBe(id)
  }
})

test('a path that was typed wrong is still one', () => {
  expect(userOf('/users/50%')).toBe('50%')
  expect(match('/users')?.route.title).toBe('Users')
})
