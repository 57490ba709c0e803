// What this page reads of an OpenAPI 3.0 document, and how its references are followed.
export type Ref = { $ref: string }

export type SchemaObject = {
  $ref?: string
  type?: string
  format?: string
  description?: string
  nullable?: boolean
  enum?: unknown[]
  default?: unknown
  minimum?: unknown
  maximum?: unknown
  minLength?: number
  maxLength?: number
  minItems?: number
  maxItems?: number
  pattern?: string
  required?: string[]
  properties?: Record<string, SchemaObject>
  additionalProperties?: boolean | SchemaObject
  items?: SchemaObject
  oneOf?: SchemaObject[]
  anyOf?: SchemaObject[]
  allOf?: SchemaObject[]
}

export type MediaObject = {
  schema?: SchemaObject
  example?: unknown
  examples?: Record<string, { summary?: string; value?: unknown }>
}
type Content = Record<string, MediaObject>

export type ParameterObject = {
  name: string
  in: string
  required?: boolean
  description?: string
  schema?: SchemaObject
  example?: unknown
}
export type HeaderObject = Omit<ParameterObject, 'name' | 'in'>
export type BodyObject = { required?: boolean; description?: string; content?: Content }
export type ResponseObject = {
  description?: string
  headers?: Record<string, HeaderObject | Ref>
  content?: Content
}

export type OperationObject = {
  tags?: string[]
  summary?: string
  description?: string
  security?: Record<string, string[]>[]
  parameters?: (ParameterObject | Ref)[]
  requestBody?: BodyObject | Ref
  responses: Record<string, ResponseObject | Ref>
}

export const methods = ['get', 'post', 'put', 'patch', 'delete', 'head', 'options'] as const
export type Method = (typeof methods)[number]
export type PathItem = { parameters?: (ParameterObject | Ref)[] } & { [M in Method]?: OperationObject }

export type SecurityScheme = { type: string; scheme?: string; bearerFormat?: string; description?: string }

export type Document = {
  info: { title: string; version: string; description?: string }
  servers?: { url: string }[]
  tags?: { name: string; description?: string }[]
  security?: Record<string, string[]>[]
  paths: Record<string, PathItem>
  components?: { schemas?: Record<string, SchemaObject>; securitySchemes?: Record<string, SecurityScheme> }
}

/** What a reference like `#/components/schemas/Run` points to; undefined when there is nothing. */
export function lookUp(document: Document, ref: string): unknown {
  if (!ref.startsWith('#/')) return undefined
  let at: unknown = document
  for (const part of ref.slice(2).split('/')) {
    const name = part.replace(/~1/g, '/').replace(/~0/g, '~')
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, name)) return undefined
    at = (at as Record<string, unknown>)[name]
  }
  return at
}

/** The object itself where the document may have put a reference to it. */
export function follow<T extends object>(document: Document, object: T | Ref): T {
  let at: T | Ref = object
  // References may point to references; a circle of them points to nothing.
  for (let hops = 0; '$ref' in at && typeof at.$ref === 'string'; hops++) {
    const next = hops < 16 ? lookUp(document, at.$ref) : undefined
    if (typeof next !== 'object' || next === null) return {} as T
    at = next as T | Ref
  }
  return at as T
}
