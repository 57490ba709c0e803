// What a part of the page says of something that could not be read.
import type { Problem } from '../api/problem'

export type Failing = {
  readonly problem: Problem | null
  readonly busy: boolean
  refetch: () => unknown
  /** Tells it that a part of the page says so, until the function is called that is returned. */
  tell?: () => () => void
}

/** One failure of several: why, and how to read again what failed. */
export class Failure {
  #of: () => Failing | Failing[]
  #failed = $derived.by(() => [this.#of()].flat().filter(({ problem }) => problem))

  constructor(of: () => Failing | Failing[]) {
    this.#of = of
  }

  get problem(): Problem | null {
    return this.#failed[0]?.problem ?? null
  }

  get busy(): boolean {
    return this.#failed.some(({ busy }) => busy)
  }

  retry() {
    for (const each of this.#failed) void each.refetch()
  }
}

/** The same, while the component that calls this is shown, which says so. */
export function failureOf(of: () => Failing | Failing[]): Failure {
  $effect.pre(() => {
    const ends = [of()].flat().map((each) => each.tell?.())
    return () => ends.forEach((end) => end?.())
  })
  return new Failure(of)
}
