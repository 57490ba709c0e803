// An agent in a page of another origin, under our own client as the server carries it.
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server as HttpServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Browser } from 'playwright-core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { launch } from './browser'
import { freePort, Server } from './server'

let browser: Browser
let site: HttpServer
let dir: string
let origin: string

const page = `<!doctype html><title>An agent</title>
<script type="importmap">{"imports": {"pikarc": "/package/dist/index.js"}}</script>
<p id="said"></p>
<script type="module">
  import { Pikarc } from "pikarc";
  const [baseUrl, apiKey] = decodeURIComponent(location.hash.slice(1)).split(" ");
  const guard = new Pikarc({ baseUrl, apiKey, maxRetries: 0 });
  const said = document.getElementById("said");
  try {
    said.textContent = await guard.run({ userId: "in-a-page" }, (run) => run.toolCall(() => "called", { toolName: "t" }));
  } catch (error) {
    said.textContent = error.name;
  }
</script>`

beforeAll(async () => {
  browser = await launch()
  dir = await mkdtemp(join(tmpdir(), 'pikarc-cors-'))
  const port = await freePort()
  origin = `http://127.0.0.1:${port}`
  site = createServer((request, response) => {
    const file = request.url === '/' ? null : join(dir, request.url!)
    const body = file ? readFile(file) : Promise.resolve(page)
    body.then(
      (content) => response.writeHead(200, { 'Content-Type': file ? 'text/javascript' : 'text/html' }).end(content),
      () => response.writeHead(404).end(),
    )
  }).listen(port, '127.0.0.1')
})

afterAll(async () => {
  await browser?.close()
  site?.close()
  await rm(dir, { recursive: true, force: true })
})

test.each([
  ['named', 'called', ['COMPLETED']],
  ['not named', 'ConnectionFailed', []],
])('a page of an origin that is %s', async (which, says, statuses) => {
  const server = await Server.start(...(which === 'named' ? ['--cors-origins', origin] : []))
  const ada = await server.account('ada@example.com')
  const packed = join(dir, 'pikarc.tgz')
  await writeFile(packed, new Uint8Array(await (await fetch(`${server.url}/clients/pikarc.tgz`)).arrayBuffer()))
  await promisify(execFile)('tar', ['-xzf', packed, '-C', dir])
  const context = await browser.newContext()
  const tab = await context.newPage()
  await tab.goto(`${origin}/#${encodeURIComponent(`${server.url} ${ada.apiKey}`)}`)
  await tab.waitForFunction(() => document.getElementById('said')!.textContent)
  expect(await tab.locator('#said').textContent()).toBe(says)
  const { items } = await server.call(ada.apiKey, 'GET', '/v1/runs/')
  expect(items.map((run: { status: string }) => run.status)).toEqual(statuses)
  await context.close()
  await server.close()
})
