import { describe, expect, it } from 'vitest'
import { repairedWords } from './words'

describe('what was repaired', () => {
  it('names the fields, and those that the server does not know as such', () => {
    expect(repairedWords(['input_data', 'other'])).toBe(
      'could not be kept as sent: input_data, fields that this server does not know',
    )
  })
})
