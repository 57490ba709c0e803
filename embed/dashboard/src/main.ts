import './look/tokens.css'
import './look/base.css'
import './look/parts.css'
import './look/frame.css'
import { mount } from 'svelte'
import App from './shell/App.svelte'
import { router } from './shell/router.svelte'
import { match } from './shell/routes'

// After the server was updated, the pages this one knows are gone: load it anew, once.
window.addEventListener('vite:preloadError', (event) => {
  const last = Number(sessionStorage.getItem('pikarc.reloaded'))
  if (Date.now() - last < 10_000) return
  event.preventDefault()
  sessionStorage.setItem('pikarc.reloaded', String(Date.now()))
  location.reload()
})

// The page's code is on its way with this one, and what it reads (src/boot.ts): drawn together, the page is laid out and
// painted once. Where the code takes long, the frame around it comes first.
const PATIENCE = 300
const first = await Promise.race([
  match(router.path)
    ?.route.load()
    .then(({ default: page }) => page)
    .catch(() => undefined),
  new Promise<undefined>((done) => setTimeout(done, PATIENCE)),
])

const target = document.getElementById('app')!
target.replaceChildren()
mount(App, { target, props: { first } })
