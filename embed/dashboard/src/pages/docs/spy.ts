/** Tells which of the calls on the page is being read: the one at the top of the window. Returns a function that stops. */
export function watchReading(elements: Iterable<Element>, tell: (id: string) => void): () => void {
  const all = [...elements]
  const inView = new Set<Element>()
  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) inView.add(target)
        else inView.delete(target)
      }
      const first = all.find((element) => inView.has(element))
      if (first) tell(first.id)
    },
    { rootMargin: '0px 0px -75% 0px' },
  )
  for (const element of all) watch.observe(element)
  return () => watch.disconnect()
}
