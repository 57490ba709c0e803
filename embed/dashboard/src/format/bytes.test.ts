import { expect, test } from 'vitest'
import { bytes } from './bytes'

test.each([
  [0, '0 bytes'],
  [1023, '1023 bytes'],
  [1024, '1.00 KiB'],
  [15_360, '15.0 KiB'],
  [206_569_472, '197 MiB'],
  [5 * 1024 ** 4, '5.00 TiB'],
  [5000 * 1024 ** 4, '5000 TiB'],
])('%d bytes are %s', (n, words) => expect(bytes(n)).toBe(words))
