// Puts compressed forms beside what was built, for the server to choose from by Accept-Encoding.
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import type { Plugin } from 'vite'

// Below this a packet is not saved.
const least = 1024

export function precompress(): Plugin {
  let dir = ''
  return {
    name: 'precompress',
    apply: 'build',
    configResolved: (config) => void (dir = config.build.outDir),
    async closeBundle() {
      const files = await readdir(dir, { recursive: true, withFileTypes: true })
      for (const file of files) {
        if (!file.isFile() || !/\.(html|js|css|svg|json)$/.test(file.name)) continue
        const path = join(file.parentPath, file.name)
        const content = await readFile(path)
        if (content.length < least) continue
        const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY } }
        await writeFile(path + '.br', await promisify(brotliCompress)(content, quality))
        await writeFile(path + '.gz', await promisify(gzip)(content, { level: constants.Z_BEST_COMPRESSION }))
      }
    },
  }
}
