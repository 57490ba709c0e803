// Names the packages whose code is in what was built, for the list of parts of a release (.ci/sbom).
// The file's name begins with a dot: the server does not serve it.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Plugin } from 'vite'

export function parts(): Plugin {
  let root = ''
  return {
    name: 'parts',
    apply: 'build',
    configResolved: (config) => void (root = config.root),
    async generateBundle(_, bundle) {
      const names = new Set<string>()
      for (const chunk of Object.values(bundle)) {
        for (const id of chunk.type === 'chunk' ? chunk.moduleIds : []) {
          const name = /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id)?.[1]
          if (name !== undefined) names.add(name)
        }
      }
      const list = []
      for (const name of [...names].sort()) {
        const about = await readFile(join(root, 'node_modules', name, 'package.json'), 'utf8')
        list.push({ name, version: (JSON.parse(about) as { version: string }).version })
      }
      this.emitFile({ type: 'asset', fileName: '.parts.json', source: JSON.stringify(list) })
    },
  }
}
