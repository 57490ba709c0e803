// Fails a build that takes code from a package which is installed for development alone: the SBOM of a release
// (.ci/sbom.sh) names the production packages of package-lock.json, and nothing else may be in the dashboard.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Plugin } from 'vite'

export function productionOnly(): Plugin {
  let root = ''
  return {
    name: 'production-only',
    apply: 'build',
    configResolved: (config) => void (root = config.root),
    async generateBundle(_, bundle) {
      const text = await readFile(join(root, 'package-lock.json'), 'utf8')
      const { packages } = JSON.parse(text) as { packages: Record<string, { dev?: boolean }> }
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.type === 'chunk' ? chunk.moduleIds : []) {
          const path = /\/(node_modules\/(?:.*\/node_modules\/)?(?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1]
          if (path !== undefined && (packages[path] === undefined || packages[path].dev === true)) {
            this.error(
              `${path} is in the dashboard: list it in package.json under dependencies, not devDependencies`,
            )
          }
        }
      }
    },
  }
}
