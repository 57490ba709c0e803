import { defineConfig } from 'vitest/config'

// Not a test of anything: vitest only runs the TypeScript.
export default defineConfig({ test: { include: ['screenshots.ts'] } })
