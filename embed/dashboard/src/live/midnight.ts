// Budgets and counts of a day begin anew at 00:00 UTC without an event.

// Clocks differ a little: before the server's midnight, the old day would be read again.
const LATE = 5_000

const dayOf = (ms: number) => Math.floor(ms / 86_400_000)

/** Runs a function after each midnight in UTC, also one that was slept through; returns a function that ends it. */
export function afterMidnight(run: () => void): () => void {
  let day = dayOf(Date.now() - LATE)
  const timer = setInterval(() => {
    const now = dayOf(Date.now() - LATE)
    if (now === day) return
    day = now
    run()
  }, 1000)
  return () => clearInterval(timer)
}
