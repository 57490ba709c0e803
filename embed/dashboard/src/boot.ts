// The first thing a page runs, before it is painted: a classic script, so it must stay tiny and may import types only.
// It says which frame the page has (index.html draws both), asks for the page's code and for what the page reads
// first. The browser then does all of it at once, instead of one after the other.

declare global {
  interface Window {
    /** Answers that were asked for before the code that needs them was there; src/api/client.ts takes them. */
    pikarcEarly?: { token: string | null; answers: Map<string, Promise<Response>> }
  }
}

/** The code of each page by the name of its folder: vite writes it in when it builds. */
declare const PAGE_CODE: Record<string, string>

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
  return { name }
}

/** What a page reads first, as it writes the addresses. Filters change them: then only what all pages read. */
function reads(name: string, id = ''): string[] {
  const own: Record<string, string[]> = {
    overview: ['/v1/usage/daily?days=30&by=model', '/v1/runs/?status=RUNNING&limit=11'],
    runs: ['/v1/runs/?limit=50'],
    run: /^[\w-]+$/.test(id) ? ['/v1/runs/' + id] : [],
  }
  return ['/v1/workspace/', '/v1/usage/', ...(location.search ? [] : (own[name] ?? []))]
}

function boot() {
  let token: string | null = null
  try {
    token = localStorage.getItem('pikarc.token' + base)
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

  const answers = new Map<string, Promise<Response>>()
  window.pikarcEarly = { token, answers }
  const headers: Record<string, string> = { Accept: 'application/json' }
  if (token) headers.Authorization = 'Bearer ' + token
  for (const url of outside ? ['/v1/server'] : ['/v1/server', ...reads(name, id)]) {
    const answer = fetch(base + url, { headers, cache: 'no-store' })
    // Who takes it is told; nobody may, when the page turns out to be another.
    answer.catch(() => {})
    answers.set(url, answer)
  }
}

boot()

export {}
