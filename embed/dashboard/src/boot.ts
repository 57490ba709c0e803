// The first thing a page runs, before it is painted: a classic script, so it must stay tiny and may import types only.
// It says which frame the page has (index.html draws both), asks for the page's code, joins the event stream and asks
// for what the page reads first. The browser then does all of it at once, instead of one after the other.
import type { Told } from './live/connection'

/** An answer that is read whole: taken later, it is there at once. */
export type Answer = { response: Response; text: string }

declare global {
  interface Window {
    /** Answers that were asked for before the code that needs them was there; src/api/client.ts takes them. */
    pikarcEarly?: {
      token: string | null
      answers: Map<string, Promise<Answer>>
      /** When they were asked for (performance.now()). */
      askedAt: number
      /** Something has changed since. */
      outdated?: boolean
      /** Where the worker's code is that reads the events, in browsers that have such workers. */
      worker?: string
      /** The worker, and what it has told: src/live/stream.svelte.ts takes both. */
      shared?: SharedWorker
      told: { at: number; told: Told }[]
    }
  }
}

/** The files of each page's code by the name of its folder: vite writes them in when it builds. */
declare const PAGE_CODE: Record<string, string[]>
declare const WORKER_CODE: string

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

/** What a page reads first, as it writes the addresses. */
function reads(name: string): string[] {
  const all = ['/v1/workspace/', '/v1/usage/', '/v1/usage/now']
  const filtered = location.search !== ''
  if (name === 'overview') {
    if (!filtered) all.push('/v1/usage/daily?days=14&by=model')
    all.push('/v1/usage/daily?days=60')
  }
  if (name === 'runs') {
    if (!filtered) all.push('/v1/runs/?limit=50', '/v1/run-totals?buckets=100')
    all.push('/v1/saved-views/', '/v1/usage/by?group=tag%3Aagent&limit=50', '/v1/run-filters')
  }
  return all
}

/** Of a run's page, the run. */
function run(name: string, id = ''): string {
  return name === 'run' && /^[\w-]+$/.test(id) ? '/v1/runs/' + id : ''
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
  for (const file of Object.hasOwn(code, needed) ? code[needed]! : []) {
    const link = document.createElement('link')
    link.rel = 'modulepreload'
    link.crossOrigin = ''
    link.href = base + file
    document.head.append(link)
  }

  const early: NonNullable<Window['pikarcEarly']> = { token, answers: new Map(), askedAt: 0, told: [] }
  window.pikarcEarly = early

  const headers: Record<string, string> = { Accept: 'application/json' }
  if (token) headers.Authorization = 'Bearer ' + token
  early.askedAt = performance.now()
  const ask = (url: string, after = Promise.resolve<unknown>(null)) => {
    const answer = after.then(async () => {
      const response = await fetch(base + url, { headers, cache: 'no-store' })
      return { response, text: await response.text() }
    })
    // Who takes it is told; nobody may, when the page turns out to be another.
    answer.catch(() => {})
    early.answers.set(url, answer)
    return answer
  }
  for (const url of ['/v1/server', ...(outside ? [] : reads(name))]) void ask(url)
  const ofRun = outside ? '' : run(name, id)
  if (ofRun) {
    void ask(ofRun + '?steps_limit=0')
    // What many steps add up to takes the server a while: it comes after the first of them.
    void ask(ofRun + '/breakdown', ask(ofRun + '/outline?limit=200'))
  }
  if (typeof SharedWorker !== 'undefined') early.worker = base + WORKER_CODE
  if (token && early.worker && !outside) join(early, early.worker, token)
}

/** Joins the stream that all windows share. */
function join(early: NonNullable<Window['pikarcEarly']>, worker: string, token: string) {
  let shared: SharedWorker
  try {
    shared = new SharedWorker(worker, 'pikarc-events')
  } catch {
    // A browser that keeps nothing of this page has such workers, and refuses them.
    delete early.worker
    return
  }
  early.shared = shared
  shared.addEventListener('error', () => {
    delete early.worker
    delete early.shared
  })
  const { port } = shared
  port.addEventListener('message', ({ data, timeStamp: at }: MessageEvent<Told>) => {
    // Once the page has taken the worker, it hears for itself.
    if (early.shared) early.told.push({ at, told: data })
  })
  port.start()
  port.postMessage({ kind: 'join', url: base + '/v1/events', token })
}

boot()

export {}
