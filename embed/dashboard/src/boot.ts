// The first thing a page runs, before it is painted: a classic script, so it must stay tiny and may import types only.
// It says which frame the page has (index.html draws both), asks for the page's code, joins the event stream and asks
// for what the page reads first. The browser then does all of it at once, instead of one after the other. What is read
// once the stream is open lacks nothing: it needs not be read again.
import type { Told } from './live/connection'

declare global {
  interface Window {
    /** Answers that were asked for before the code that needs them was there; src/api/client.ts takes them. */
    pikarcEarly?: {
      token: string | null
      answers: Map<string, Promise<Response>>
      /** When they were asked for (performance.now()). */
      askedAt: number
      /** When the stream was joined. */
      joinedAt?: number
      /** Where the worker's code is that reads the events, in browsers that have such workers. */
      worker?: string
      /** The worker, and what it has told: src/live/stream.svelte.ts takes both. */
      shared?: SharedWorker
      told: { at: number; told: Told }[]
    }
  }
}

/** The code of each page by the name of its folder: vite writes it in when it builds. */
declare const PAGE_CODE: Record<string, string>
declare const WORKER_CODE: string

// A stream that does not open must not keep a page from being read: src/live/stream.svelte.ts says how long.
const PATIENCE = 300

// What src/shell/base.ts reads too.
const base = document.querySelector('meta[name="base-path"]')!.getAttribute('content')!.replace(/\/+$/, '')

function page(signedIn: boolean): { name: string; id?: string } {
  const { pathname } = location
  const path = pathname.startsWith(base + '/')
    ? pathname.slice(base.length)
    : pathname === base
      ? '/'
      : pathname
  const [name = '', id] = path.split('/').slice(1)
  if (name === '') return { name: signedIn ? 'overview' : 'sign-in' }
  if (name === 'runs' && id) return { name: 'run', id }
  if (name === 'policies' && id) return { name: 'policy', id }
  if (name === 'users' && id) return { name: 'user' }
  return { name }
}

/** What a page reads first, as it writes the addresses. Filters change them: then only what all pages read. */
function reads(name: string, id = ''): string[] {
  const own: Record<string, string[]> = {
    overview: ['/v1/usage/daily?days=14&by=model'],
    runs: ['/v1/runs/?limit=50'],
  }
  // A step that is chosen changes nothing of what a run's page reads.
  const run = /^[\w-]+$/.test(id) && name === 'run' ? '/v1/runs/' + id : ''
  const ofRun = run ? [run + '?steps_limit=0', run + '/outline?limit=200', run + '/breakdown'] : []
  return [
    '/v1/workspace/',
    '/v1/usage/',
    '/v1/usage/now',
    ...ofRun,
    ...(location.search ? [] : (own[name] ?? [])),
  ]
}

function boot() {
  let token: string | null = null
  try {
    token = localStorage.getItem('pikarc.token' + base)
    const theme = localStorage.getItem('pikarc.theme' + base)
    if (theme) document.documentElement.dataset.theme = theme
  } catch {
    // A locked-down browser: nobody is signed in yet.
  }
  const { name, id } = page(token !== null)
  const outside = !token || name === 'sign-in' || name === 'register'
  document.documentElement.dataset.frame = outside ? 'outside' : 'inside'

  const needed = outside && name !== 'register' && name !== 'docs' ? 'sign-in' : name
  const code = PAGE_CODE
  if (Object.hasOwn(code, needed)) {
    const link = document.createElement('link')
    link.rel = 'modulepreload'
    link.crossOrigin = ''
    link.href = base + code[needed]!
    document.head.append(link)
  }

  const early: NonNullable<Window['pikarcEarly']> = { token, answers: new Map(), askedAt: Infinity, told: [] }
  window.pikarcEarly = early
  if (typeof SharedWorker !== 'undefined') early.worker = base + WORKER_CODE
  const open = token && early.worker && !outside ? join(early, early.worker, token) : undefined

  const headers: Record<string, string> = { Accept: 'application/json' }
  if (token) headers.Authorization = 'Bearer ' + token
  const ask = (url: string) => fetch(base + url, { headers, cache: 'no-store' })
  const expect = (url: string, answer: Promise<Response>) => {
    // Who takes it is told; nobody may, when the page turns out to be another.
    answer.catch(() => {})
    early.answers.set(url, answer)
  }
  expect('/v1/server', ask('/v1/server'))
  const asked = open?.then(() => void (early.askedAt = performance.now()))
  if (!asked) early.askedAt = performance.now()
  if (!outside) for (const url of reads(name, id)) expect(url, asked ? asked.then(() => ask(url)) : ask(url))
}

/** Joins the stream that all windows share; comes once it is open, or will not be soon. */
function join(
  early: NonNullable<Window['pikarcEarly']>,
  worker: string,
  token: string,
): Promise<void> | undefined {
  early.joinedAt = performance.now()
  let shared: SharedWorker
  try {
    shared = new SharedWorker(worker, 'pikarc-events')
  } catch {
    // A browser that keeps nothing of this page has such workers, and refuses them.
    delete early.worker
    return undefined
  }
  early.shared = shared
  return new Promise((done) => {
    shared.addEventListener('error', () => {
      delete early.worker
      delete early.shared
      done()
    })
    const { port } = shared
    port.addEventListener('message', ({ data, timeStamp: at }: MessageEvent<Told>) => {
      // Once the page has taken the worker, it hears for itself.
      if (early.shared) early.told.push({ at, told: data })
      done()
    })
    port.start()
    port.postMessage({ kind: 'join', url: base + '/v1/events', token })
    setTimeout(done, PATIENCE)
  })
}

boot()

export {}
