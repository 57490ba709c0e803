// Writes src/api/schema.ts from the server's OpenAPI document. Amounts (all its "number"s) become Money.
import { writeFile } from 'node:fs/promises'
import openapiTS, { astToString } from 'openapi-typescript'
import ts from 'typescript'

const money = ts.factory.createTypeReferenceNode('Money')
const moneyOrNull = ts.factory.createUnionTypeNode([
  money,
  ts.factory.createLiteralTypeNode(ts.factory.createNull()),
])

const nodes = await openapiTS(new URL('../../server/openapi.json', import.meta.url), {
  silent: true,
  inject: "import type { Money } from './exact'",
  transform: (schema) => {
    if (schema.type !== 'number') return undefined
    return schema.nullable ? moneyOrNull : money
  },
})
await writeFile(new URL('src/api/schema.ts', import.meta.url), astToString(nodes))
