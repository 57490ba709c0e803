import './look/tokens.css'
import './look/base.css'
import './look/parts.css'
import './look/frame.css'
import { mount } from 'svelte'
import App from './shell/App.svelte'

// After the server was updated, the pages this one knows are gone: load it anew, once.
window.addEventListener('vite:preloadError', (event) => {
  const last = Number(sessionStorage.getItem('pikarc.reloaded'))
  if (Date.now() - last < 10_000) return
  event.preventDefault()
  sessionStorage.setItem('pikarc.reloaded', String(Date.now()))
  location.reload()
})

const target = document.getElementById('app')!
target.replaceChildren()
mount(App, { target })
