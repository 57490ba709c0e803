import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'
import { parts } from './parts.ts'
import { precompress } from './precompress.ts'

// `npm run dev` serves the page and passes the API on to a server on this address.
const api = process.env.PIKARC_URL ?? 'http://localhost:8000'

export default defineConfig({
  plugins: [svelte(), parts(), precompress()],
  server: { proxy: { '/v1': api, '/openapi.json': api, '/health': api } },
  build: {
    target: 'es2022',
    // The Content-Security-Policy allows files of this server only: nothing is inlined as data:.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  test: {
    include: ['src/**/*.test.ts', 'tests/**/*.test.ts'],
  },
})
