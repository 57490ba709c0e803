// Puts src/boot.ts before everything else of the page that is built, with the names of the files of each page.
import { build, type Plugin, type Rolldown } from 'vite'

export function boot(): Plugin {
  return {
    name: 'boot',
    apply: 'build',
    enforce: 'post',
    generateBundle: {
      order: 'post',
      async handler(_, bundle) {
        const index = bundle['index.html']
        if (index?.type !== 'asset') throw new Error('index.html was not built')
        const code: Record<string, string> = {}
        for (const file of Object.values(bundle)) {
          const module = file.type === 'chunk' ? file.facadeModuleId : null
          const name = /\/src\/pages\/([\w-]+)\/\w+\.svelte$/.exec(module ?? '')?.[1]
          if (name) code[name] = '/' + file.fileName
        }
        const script = this.emitFile({ type: 'asset', name: 'boot.js', source: await compiled(code) })
        const tag = `<script src="/${this.getFileName(script)}"></script>`
        index.source = String(index.source).replace('<script type="module"', tag + '\n    $&')
      },
    },
  }
}

/** The script as one classic file: it runs before the page is painted, which a module does not. */
async function compiled(pageCode: Record<string, string>): Promise<string> {
  const built = (await build({
    configFile: false,
    logLevel: 'error',
    define: { PAGE_CODE: JSON.stringify(pageCode) },
    build: {
      write: false,
      target: 'es2022',
      rolldownOptions: {
        input: new URL('src/boot.ts', import.meta.url).pathname,
        output: { format: 'iife' },
      },
    },
  })) as Rolldown.RolldownOutput
  return built.output[0].code
}
