import { defineConfig } from 'vitest/config'

// No tests: vitest only runs the TypeScript of what is named on the command line.
export default defineConfig({ test: { include: ['screenshots.ts', 'performance.ts'] } })
