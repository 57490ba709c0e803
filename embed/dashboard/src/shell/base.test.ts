import { expect, test } from 'vitest'
import { baseOf, below } from './base'

test.each([
  [null, ''],
  ['/', ''],
  ['/pikarc/', '/pikarc'],
  ['/tools/pikarc/', '/tools/pikarc'],
])('%s in the page is the base %s', (content, base) => expect(baseOf(content)).toBe(base))

test.each([
  ['', '/', '/'],
  ['', '/runs/1', '/runs/1'],
  ['/pikarc', '/pikarc', '/'],
  ['/pikarc', '/pikarc/', '/'],
  ['/pikarc', '/pikarc/runs/1', '/runs/1'],
  ['/pikarc', '/pikarcs/runs', '/pikarcs/runs'],
  ['/pikarc', '/overview', '/overview'],
])('below %s, %s is the page %s', (base, pathname, path) => expect(below(base, pathname)).toBe(path))
