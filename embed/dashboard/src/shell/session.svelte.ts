// Who is signed in. The token lies in localStorage: links opened in a new tab stay signed in, and signing out in
// one tab signs out all of them. sessionStorage would give each tab its own session. Scripts of others, the danger
// to anything in storage, are refused by the Content-Security-Policy.
import { base } from './base'
import { inThisServer, keep, recall } from './kept'
import { navigate, router } from './router.svelte'

const KEY = inThisServer('pikarc.token')
// Until when a window waits for the answer that brings the next token. The others wait with it.
const RENEWING = inThisServer('pikarc.renewing')
const RENEWED_WITHIN = 30_000
const LOOK_AGAIN = 100

class Session {
  token: string | null = $state(recall(KEY))
  /** Whether a session ended without the person asking for it; sign-in says so. */
  expired = $state(false)
  #renewing: Promise<void> | null = null

  constructor() {
    window.addEventListener('storage', (event) => {
      if (event.key !== KEY && event.key !== null) return
      this.token = recall(KEY)
      if (!this.token) leave()
      else if (isOutside(router.path)) navigate(nextPage(router.query.get('next')), { replace: true })
    })
  }

  begin(token: string) {
    keep(KEY, token)
    this.token = token
    this.expired = false
  }

  /** Goes on with the token of an answer. The one of before ends with the call: what is refused meanwhile ends nothing. */
  async renew(call: () => Promise<{ access_token: string }>) {
    const before = this.token
    const answered = call().then(({ access_token }) => {
      if (this.token === before) this.begin(access_token)
      else signOut(access_token) // the person has signed out meanwhile, here or in another tab
    })
    this.#renewing = answered.catch(() => {})
    keep(RENEWING, String(Date.now() + RENEWED_WITHIN))
    try {
      await answered
    } finally {
      this.#renewing = null
      keep(RENEWING, null)
    }
  }

  /** Ends the session at the person's wish: here at once, and on the server, which need not be waited for. */
  end() {
    signOut(this.token)
    this.forget()
  }

  /** Forgets a session that has been ended. */
  forget() {
    keep(KEY, null)
    this.token = null
    this.expired = false
    navigate('/sign-in', { replace: true })
  }

  /** The server no longer takes this token: sign in, then come back to this page. */
  expire(token: string): void {
    if (this.#renewing) return void this.#renewing.then(() => this.expire(token))
    if (token !== this.token) return
    const kept = recall(KEY)
    // Another tab goes on with a new one, and this one is about to hear of it.
    if (kept && kept !== token) {
      this.token = kept
      return
    }
    const renewed = Number(recall(RENEWING)) - Date.now()
    if (renewed > 0 && renewed <= RENEWED_WITHIN) {
      setTimeout(() => this.expire(token), LOOK_AGAIN)
      return
    }
    keep(KEY, null)
    this.token = null
    this.expired = true
    leave()
  }
}

/** Without an answer the token expires by itself. */
function signOut(token: string | null) {
  const headers = { Authorization: `Bearer ${token}` }
  fetch(base + '/v1/auth/logout', { method: 'POST', headers, keepalive: true }).catch(() => {})
}

export const session = new Session()

/** Pages for people who are not signed in. */
export function isOutside(path: string): boolean {
  return path === '/sign-in' || path === '/register'
}

/** Goes to sign-in and remembers the page one was on. */
export function leave() {
  if (isOutside(router.path)) return
  const here = router.path + router.search
  const next = here === '/' || here === '/overview' ? '' : '?next=' + encodeURIComponent(here)
  navigate('/sign-in' + next, { replace: true })
}

/** The page to go to after signing in, without the base path: one of this server, never an address somebody else put into the link. */
export function nextPage(next: string | null): string {
  if (!next) return '/overview'
  const url = new URL(next, location.origin)
  return url.origin === location.origin && !isOutside(url.pathname) ? url.pathname + url.search : '/overview'
}
