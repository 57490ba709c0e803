// Which steps are shown, as the address says it.
import { isProblem, type Item } from './outline'

export const filters: { value: string; label: string; wanted: (item: Item) => boolean }[] = [
  { value: 'model', label: 'Model', wanted: ({ type }) => type === 'MODEL_CALL' },
  { value: 'tool', label: 'Tool', wanted: ({ type }) => type === 'TOOL_CALL' },
  { value: 'problems', label: 'Problems', wanted: isProblem },
]

export const filterOf = (query: URLSearchParams) => filters.find(({ value }) => value === query.get('show'))
