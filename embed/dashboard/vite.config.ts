import { svelte } from '@sveltejs/vite-plugin-svelte'
import { defineConfig } from 'vitest/config'
import { boot } from './boot.ts'
import { precompress } from './precompress.ts'
import { productionOnly } from './productionOnly.ts'

// `npm run dev` serves the page and passes the API on to a server on this address.
const api = process.env.PIKARC_URL ?? 'http://localhost:8000'

export default defineConfig({
  plugins: [svelte(), productionOnly(), boot(), precompress()],
  // The ready-made policies are the server's own file.
  server: {
    fs: { allow: ['.', '../../policies'] },
    proxy: { '/v1': api, '/openapi.json': api, '/health': api },
  },
  build: {
    target: 'es2022',
    // The Content-Security-Policy allows files of this server only: nothing is inlined as data:.
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    // A request costs a slow phone more than the bytes in it: all styles in one file, and what pages share in
    // one chunk, so that a page is that chunk and its own.
    cssCodeSplit: false,
    modulePreload: {
      polyfill: false,
      resolveDependencies: (_, names, { hostType }) => (hostType === 'html' ? names : []),
    },
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: 'shared', test: /preload-helper|\/svelte\/|\/src\/(api|format|live|parts|runs|shell)\// },
          ],
        },
      },
    },
  },
  test: {
    include: ['src/**/*.test.ts', 'tests/**/*.test.ts'],
  },
})
