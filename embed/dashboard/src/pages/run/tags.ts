// The tags that a run's metadata gives it, by which runs are found and usage is counted: the server's own rules
// (policies.TagsOf), as far as a reader sees them.
const MOST = 10
const LONGEST = { key: 40, value: 100 }

/** Names with their values, in the order of the names. */
export function tagsOf(metadata: unknown): [key: string, value: string][] {
  if (!isObject(metadata)) return []
  const { tags, agent } = metadata
  const values = tags == null ? { agent } : tags
  if (!isObject(values)) return []
  return Object.entries(values)
    .filter((tag): tag is [string, string] => typeof tag[1] === 'string' && tag[1] !== '' && tag[0] !== '')
    .map(([key, value]): [string, string] => [cut(key, LONGEST.key), cut(value, LONGEST.value)])
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .slice(0, MOST)
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const cut = (text: string, most: number) => [...text].slice(0, most).join('')
