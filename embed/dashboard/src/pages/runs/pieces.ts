// How long the pieces of time are that runs are drawn by: about eighty of them, of a length that people think in.
const LENGTHS = [1, 5, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10_080]

/** In minutes. */
export function bucketMinutes(since: number, until: number): number {
  const minutes = Math.max(0, until - since) / 60_000
  return LENGTHS.find((length) => minutes / length <= 100) ?? LENGTHS.at(-1)!
}
