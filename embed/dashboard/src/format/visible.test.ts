import { expect, test } from 'vitest'
import { visible } from './visible'

test.each([
  ['\u202Egnp.exe', '⟨U+202E⟩gnp.exe'],
  ['a\u2069b\u200Fc', 'a⟨U+2069⟩b⟨U+200F⟩c'],
  ['pay\u200Bpal\uFEFF', 'pay⟨U+200B⟩pal⟨U+FEFF⟩'],
  ['null\u0000, escape\u001B[31m', 'null⟨U+0000⟩, escape⟨U+001B⟩[31m'],
  ['hi\u{E0041}', 'hi⟨U+E0041⟩'],
])('hidden characters are written out: %j', (text, shown) => expect(visible(text)).toBe(shown))

test.each(['用户-😀', '👩\u200D👩\u200D👧', 'می\u200Cخواهم', 'two\nlines\tand a tab', 'שלום'])(
  'what people write stays: %j',
  (text) => expect(visible(text)).toBe(text),
)
