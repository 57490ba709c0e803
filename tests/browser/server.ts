// The real binary on a free port, with a data directory of its own, and what agents and operators do to it.
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { POLICY } from './routes'

const binary = resolve(import.meta.dirname, process.env.PIKARC_BINARY ?? '../../pikarc')
const run = promisify(execFile)

export const PASSWORD = 'correct horse battery'

export type Account = { email: string; apiKey: string; token: string }

export class Server {
  #child: ChildProcess | null = null
  #flags: string[]
  #settings: Record<string, string>

  private constructor(
    readonly dir: string,
    readonly port: number,
    flags: string[],
    settings: Record<string, string>,
  ) {
    this.#flags = flags
    this.#settings = settings
  }

  get url(): string {
    return `http://localhost:${this.port}`
  }

  static async start(...flags: string[]): Promise<Server> {
    return Server.#make(await freePort(), flags, {})
  }

  /** With settings of the environment, on a port that is known before. */
  static startWith(settings: Record<string, string>, port: number): Promise<Server> {
    return Server.#make(port, [], settings)
  }

  static async #make(port: number, flags: string[], settings: Record<string, string>): Promise<Server> {
    const server = new Server(await mkdtemp(join(tmpdir(), 'pikarc-browser-')), port, flags, settings)
    await server.up()
    return server
  }

  /** Starts it (again) on the same address and data. */
  async up() {
    const args = ['serve', '--data-dir', this.dir, '--addr', `localhost:${this.port}`, ...this.#flags]
    const { PIKARC_BINARY: _, ...own } = process.env // a setting of these tests, not of the server
    const env = { ...own, ...this.#settings }
    const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'], env })
    this.#child = child
    let said = ''
    child.stderr!.on('data', (text) => (said += text))
    await until(`the server to answer: ${said}`, async () => {
      if (child.exitCode !== null) throw new Error(`the server ended: ${said}`)
      return (await fetch(this.url + '/health').catch(() => null))?.ok ?? false
    })
  }

  /** Ends it, gently or as a power cut would. */
  async down(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM') {
    const child = this.#child
    this.#child = null
    if (!child || child.exitCode !== null) return
    const exit = once(child, 'exit')
    child.kill(signal)
    await exit
  }

  async close() {
    await this.down()
    await rm(this.dir, { recursive: true, force: true })
  }

  /** Runs another command of the binary on the same data. */
  async command(...args: string[]): Promise<string> {
    return (await run(binary, [...args, '--data-dir', this.dir])).stdout
  }

  async account(email: string, plan = 'scale'): Promise<Account> {
    const flags = ['--email', email, '--plan', plan, '--password-stdin', '--json', '--data-dir', this.dir]
    const child = spawn(binary, ['create-user', ...flags], { stdio: ['pipe', 'pipe', 'inherit'] })
    child.stdin.end(PASSWORD + '\n')
    let out = ''
    child.stdout.on('data', (text) => (out += text))
    await once(child, 'close')
    const { api_key } = JSON.parse(out)
    const login = await this.call('', 'POST', '/v1/auth/login', { email, password: PASSWORD })
    return { email, apiKey: api_key, token: login.access_token }
  }

  /** A call of the API; an error status throws. */
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  async call(credential: string, method: string, path: string, body?: unknown): Promise<any> {
    const response = await fetch(this.url + path, {
      method,
      headers: { 'Content-Type': 'application/json', ...(credential && { Authorization: `Bearer ${credential}` }) },
      body: body === undefined ? null : JSON.stringify(body),
    })
    const text = await response.text()
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`)
    return text ? JSON.parse(text) : null
  }

  /** A policy that has a person asked, with reviews in each state that a page shows: two wait. */
  async reviews(account: Account, user: string, text: string) {
    const call = (method: string, path: string, body: object) => this.call(account.token, method, path, body)
    await call('PATCH', '/v1/workspace/', { reviews: 'all_clients', max_concurrent_runs: 100 })
    await call('PUT', `/v1/policies/${POLICY}`, {
      effect: 'review',
      match: { tools: ['refund*'] },
      when: 'usd(input.amount) > usd(100)',
      message: text,
      description: text,
      review: { expires_seconds: 3600 },
    })
    const limit = { measure: 'calls', per: 'user', window: 'day', amount: 5 }
    await call('PUT', '/v1/policies/refunds-a-day', { effect: 'log', match: { tools: ['refund*'] }, limit })
    const agent = this.agent(account)
    const { id: run } = await agent.start(user, { task: 'Short' })
    const asked: { id: string; review_id: string }[] = []
    for (let n = 1; n <= 6; n++) {
      const input_data = { amount: 100 + n, currency: 'USD', customer: user, reason: text }
      asked.push((await agent.ask(run, n, { tool_name: 'refund', input_data })) as never)
    }
    const [, denied, approved, bypassed] = asked
    await call('POST', `/v1/reviews/${denied!.review_id}/deny`, { note: text })
    const grant = { scope: 'same_action', seconds: 3600, uses: 3 }
    await call('POST', `/v1/reviews/${approved!.review_id}/approve`, { note: text, grant })
    await agent.report(run, bypassed!.id)
  }

  agent(account: Account): Agent {
    return new Agent(this, account.apiKey)
  }
}

type Decision = { outcome: 'ALLOW' | 'DENY'; reason: string | null }
type Answer = { id: string; status: string; decision: Decision }
export type StepWish = { type?: string; model?: string; tool_name?: string; input_data?: object }
export type StepUse = { prompt?: number; completion?: number; ms?: number; output?: unknown; error?: string }

/** An agent as the published clients are one: it asks, acts and reports. */
export class Agent {
  constructor(
    readonly server: Server,
    readonly key: string,
  ) {}

  start(user_id: string, metadata?: object): Promise<Answer> {
    return this.server.call(this.key, 'POST', '/v1/runs/', { user_id, metadata })
  }

  ask(run: string, sequence: number, wish: StepWish = {}): Promise<Answer> {
    const type = wish.type ?? (wish.tool_name ? 'TOOL_CALL' : 'MODEL_CALL')
    return this.server.call(this.key, 'POST', `/v1/runs/${run}/steps`, { sequence, ...wish, type })
  }

  report(run: string, step: string, { prompt = 0, completion = 0, ms = 840, output, error }: StepUse = {}) {
    return this.server.call(this.key, 'PATCH', `/v1/runs/${run}/steps/${step}`, {
      status: error ? 'FAILED' : 'COMPLETED',
      duration_ms: ms,
      prompt_tokens: prompt,
      completion_tokens: completion,
      output_data: output,
      error,
    })
  }

  /** Asks for a model call and reports it if it was allowed. */
  async step(run: string, sequence: number, wish: StepWish = { model: 'gpt-4o' }, use: StepUse = {}) {
    const answer = await this.ask(run, sequence, wish)
    if (answer.decision.outcome === 'ALLOW') await this.report(run, answer.id, use)
    return answer
  }

  end(run: string, status = 'COMPLETED') {
    return this.server.call(this.key, 'POST', `/v1/runs/${run}/end`, { status })
  }
}

/** Waits for a condition, with a deadline that only a broken server reaches. */
export async function until(what: string, condition: () => Promise<boolean> | boolean, deadline = 30_000) {
  const end = Date.now() + deadline
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, 'localhost')
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, 'close')
  return port
}
