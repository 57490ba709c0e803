/** The time, for ages: it moves once a second while anybody looks. */
class Clock {
  now = $state(Date.now())

  constructor() {
    setInterval(() => {
      if (!document.hidden) this.now = Date.now()
    }, 1000)
    document.addEventListener('visibilitychange', () => (this.now = Date.now()))
  }
}

export const time = new Clock()
