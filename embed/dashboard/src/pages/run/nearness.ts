// Which groups of steps are near the window: one observer for all of them, which no scroll handler could be.

type Told = (near: boolean, height: number) => void

export class Nearness {
  /** How tall a row is, as far as is known. */
  row = 41

  #told = new Map<Element, Told>()
  #observer = new IntersectionObserver(
    (news) => {
      for (const { target, isIntersecting, boundingClientRect } of news) {
        this.#told.get(target)?.(isIntersecting, boundingClientRect.height)
      }
    },
    { rootMargin: '600px' },
  )

  /** Tells when an element comes near or leaves, with its height; returns a function that ends it. */
  watch(element: Element, told: Told): () => void {
    this.#told.set(element, told)
    this.#observer.observe(element)
    return () => {
      this.#told.delete(element)
      this.#observer.unobserve(element)
    }
  }

  learn(row: number) {
    this.row = row
  }
}
