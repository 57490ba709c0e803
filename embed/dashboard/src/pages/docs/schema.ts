// Schemas as people read them: a type in words, limits in words, and what lies inside, opened one level at a time.
import { decimalText, type Money } from '../../api/exact'
import { plural } from '../../format/count'
import { type Document, lookUp, type SchemaObject } from './openapi'

export type Field = { name: string; required: boolean; place?: string; schema: Readable }

export type Readable = {
  /** The name it has in the document, if it has one. */
  name: string
  /** "string", "array of Step", "number or string". */
  type: string
  nullable: boolean
  description: string
  values: string[]
  limits: string[]
  /** Whether it contains itself, and so is not opened again. */
  repeats: boolean
  /** What lies inside: read when it is opened, so that no schema is too deep. */
  inside: (() => Inside) | null
}
export type Inside = { fields: Field[]; choices: Readable[] }

/** Reads a schema. `above` are the names of those that it lies in. */
export function readSchema(
  document: Document,
  schema: SchemaObject,
  above: readonly string[] = [],
): Readable {
  const { own, name, seen, circle } = resolve(document, schema, above)
  const repeats = circle || (name !== '' && above.includes(name))
  const item = own.items && !repeats ? readSchema(document, own.items, seen) : null
  const choices = repeats ? [] : (own.oneOf ?? own.anyOf ?? [])
  const options = choices.map((each) => readSchema(document, each, seen))
  // A choice between plain values is told by its type and limits; only what has parts is worth opening.
  const open = options.some((each) => each.inside || each.repeats)
  const hasFields = Object.keys(own.properties ?? {}).length > 0 || isSchema(own.additionalProperties)
  const insideOf = (): Inside => ({
    fields: hasFields ? fieldsOf(document, own, seen) : [],
    choices: open ? options : [],
  })
  const inside = hasFields || open ? insideOf : (item?.inside ?? null)
  return {
    name,
    type: typeOf(own, item, options),
    nullable: own.nullable === true || options.some((each) => each.nullable),
    description: own.description ?? '',
    // That null is allowed is told with the type.
    values: own.enum?.filter((value) => value !== null).map(words) ?? item?.values ?? [],
    limits: [...limitsOf(own), ...(open ? [] : options.flatMap(optionLimits))],
    repeats: repeats || item?.repeats === true,
    inside: repeats ? null : inside,
  }
}

type Resolved = { own: SchemaObject; name: string; seen: readonly string[]; circle: boolean }

// Follows references and merges what "allOf" puts together.
function resolve(document: Document, schema: SchemaObject, above: readonly string[]): Resolved {
  let own = schema
  let name = ''
  let seen = above
  const passed = new Set<string>()
  while (own.$ref !== undefined) {
    const { $ref: ref, ...beside } = own
    if (passed.has(ref)) return { own: {}, name, seen, circle: true }
    passed.add(ref)
    name ||= ref.slice(ref.lastIndexOf('/') + 1)
    own = { ...((lookUp(document, ref) ?? {}) as SchemaObject), ...beside }
  }
  if (name) seen = [...above, name]
  if (own.allOf && !(name && above.includes(name))) own = merge(document, own, seen)
  return { own, name, seen, circle: false }
}

function merge(document: Document, schema: SchemaObject, seen: readonly string[]): SchemaObject {
  const { allOf = [], ...rest } = schema
  // A part that contains the whole adds nothing that is not there already.
  const parts = allOf
    .map((each) => resolve(document, each, seen))
    .filter(({ name, circle }) => !circle && !(name && seen.includes(name)))
    .map(({ own }) => own)
  const merged: SchemaObject = Object.assign({}, ...parts, rest)
  const all = [...parts, rest]
  merged.properties = Object.assign({}, ...all.map((each) => each.properties ?? {}))
  merged.required = [...new Set(all.flatMap((each) => each.required ?? []))]
  return merged
}

function fieldsOf(document: Document, own: SchemaObject, seen: readonly string[]): Field[] {
  const fields = Object.entries(own.properties ?? {}).map(([name, schema]) => ({
    name,
    required: own.required?.includes(name) ?? false,
    schema: readSchema(document, schema, seen),
  }))
  if (isSchema(own.additionalProperties)) {
    const schema = readSchema(document, own.additionalProperties, seen)
    fields.push({ name: 'any other name', required: false, schema })
  }
  return fields
}

const isSchema = (value: unknown): value is SchemaObject =>
  typeof value === 'object' && value !== null && Object.keys(value).length > 0

function typeOf(own: SchemaObject, item: Readable | null, options: Readable[]): string {
  if (options.length > 0) {
    const types = [...new Set(options.map((each) => each.type))]
    return types.length === 1 && options.length > 1
      ? `one of ${plural(options.length, types[0]!)}`
      : types.join(' or ')
  }
  if (item) return `array of ${item.inside || item.repeats ? item.name || item.type : item.type}`
  const type = own.type ?? (own.properties ? 'object' : 'any JSON')
  return own.format && !/^int\d+$/.test(own.format) ? `${type} (${own.format})` : type
}

function optionLimits(option: Readable): string[] {
  return option.limits.map((limit) => `${option.type}: ${limit}`)
}

function limitsOf(own: SchemaObject): string[] {
  const limits: string[] = []
  const add = (text: string) => text && limits.push(text)
  add(range(own.minimum, own.maximum, ''))
  add(range(own.minLength, own.maxLength, own.maxLength === 1 ? ' character' : ' characters'))
  add(range(own.minItems, own.maxItems, own.maxItems === 1 ? ' item' : ' items'))
  if (own.pattern) limits.push(`matches ${own.pattern}`)
  if (own.type === 'object' && own.additionalProperties === true && !own.properties) add('any fields')
  if (own.default !== undefined) limits.push(`${words(own.default)} if left out`)
  return limits
}

function range(low: unknown, high: unknown, unit: string): string {
  if (low === undefined && high === undefined) return ''
  if (high === undefined) return low === 0 && unit ? '' : `at least ${amount(low)}${unit}`
  if (low === undefined || (low === 0 && unit)) return `at most ${amount(high)}${unit}`
  return String(low) === String(high)
    ? `exactly ${amount(low)}${unit}`
    : `from ${amount(low)} to ${amount(high)}${unit}`
}

/** A number with its thousands apart. */
function amount(value: unknown): string {
  const [whole = '', fraction] = decimalText(value as Money).split('.')
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',')
  return fraction ? `${grouped}.${fraction}` : grouped
}

function words(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}
