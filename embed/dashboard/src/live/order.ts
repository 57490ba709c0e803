/**
 * Takes what was read anew into a list somebody may be pointing at: rows keep their places, a row that left the
 * list keeps what it last was, and new rows follow at the end. Nothing moves under the pointer.
 */
export function keepOrder<Row>(shown: Row[], fresh: Row[], id: (row: Row) => string): Row[] {
  const news = new Map(fresh.map((row) => [id(row), row]))
  const kept = shown.map((row) => news.get(id(row)) ?? row)
  const known = new Set(shown.map(id))
  return [...kept, ...fresh.filter((row) => !known.has(id(row)))]
}

/** Whether two lists have the same rows in the same order. */
export function sameOrder<Row>(one: Row[], other: Row[], id: (row: Row) => string): boolean {
  return one.length === other.length && one.every((row, i) => id(row) === id(other[i]!))
}
