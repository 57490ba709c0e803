import { defineConfig } from 'vitest/config'

// One browser at a time: two cores are shared with the server. Deadlines are wide, because a busy machine is no bug.
export default defineConfig({
  test: {
    include: ['*.test.ts'],
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
})
