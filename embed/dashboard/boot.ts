// Puts src/boot.ts before everything else of the page that is built, with the names of the files of each page and of the
// worker that reads the events.
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
        const code: Record<string, string[]> = {}
        for (const file of Object.values(bundle)) {
          const module = file.type === 'chunk' ? file.facadeModuleId : null
          const name = /\/src\/pages\/([\w-]+)\/\w+\.svelte$/.exec(module ?? '')?.[1]
          if (name) code[name] = filesOf(file.fileName, bundle)
        }
        for (const file of Object.values(bundle)) {
          // Chromium compiles all of it while it loads, beside the page, and not function by function as it is drawn.
          if (file.type === 'chunk' && eager(file, code))
            file.code = '//# allFunctionsCalledOnLoad\n' + file.code
        }
        const worker = await compiled('src/live/worker.ts')
        const workerFile = this.emitFile({ type: 'asset', name: 'worker.js', source: worker })
        const source = await compiled('src/boot.ts', {
          PAGE_CODE: JSON.stringify(code),
          WORKER_CODE: JSON.stringify('/' + this.getFileName(workerFile)),
        })
        const script = this.emitFile({ type: 'asset', name: 'boot.js', source })
        const tag = `<script src="/${this.getFileName(script)}"></script>`
        index.source = String(index.source).replace('<script type="module"', tag + '\n    $&')
      },
    },
  }
}

/** Whether a page runs most of a file's code when it opens. */
function eager(file: Rolldown.OutputChunk, code: Record<string, string[]>): boolean {
  return file.name === 'shared' || Object.values(code).some((files) => files.includes('/' + file.fileName))
}

/** A page's code and what it imports, beyond what index.html names. */
function filesOf(name: string, bundle: Rolldown.OutputBundle, seen = new Set<string>()): string[] {
  const file = bundle[name]
  const known = /^assets\/(index|shared)-/.test(name)
  if (file?.type !== 'chunk' || known || seen.has(name)) return []
  seen.add(name)
  return ['/' + name, ...file.imports.flatMap((other) => filesOf(other, bundle, seen))]
}

/** A script as one classic file: it runs before the page is painted, which a module does not. */
async function compiled(input: string, define: Record<string, string> = {}): Promise<string> {
  const built = (await build({
    configFile: false,
    logLevel: 'error',
    define,
    build: {
      write: false,
      target: 'es2022',
      rolldownOptions: {
        input: new URL(input, import.meta.url).pathname,
        output: { format: 'iife' },
      },
    },
  })) as Rolldown.RolldownOutput
  return built.output[0].code
}
