// Webhooks, checked by the library that Standard Webhooks itself gives to receivers that run on Node.
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo } from 'node:net'
import { Webhook, WebhookVerificationError } from 'standardwebhooks'
import { expect, onTestFinished, test } from 'vitest'
import { Server } from './server'

type Received = { body: string; headers: Record<string, string> }

/** Hands over what it is sent. */
async function receiver(): Promise<{ url: string; next: () => Promise<Received> }> {
  const received: Received[] = []
  const http = createServer(async (request, response) => {
    let body = ''
    for await (const part of request.setEncoding('utf8')) body += part
    received.push({ body, headers: request.headers as Record<string, string> })
    response.writeHead(204).end()
    http.emit('received')
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  onTestFinished(() => void http.close())
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/`,
    async next() {
      while (received.length === 0) await once(http, 'received')
      return received.shift()!
    },
  }
}

test('the library of Standard Webhooks takes each signature', async () => {
  const server = await Server.start('--webhook-private')
  onTestFinished(() => server.close())
  const { token } = await server.account('webhooks@example.com')
  const { url, next } = await receiver()
  const call = (path: string, body?: unknown) => server.call(token, 'POST', path, body)
  const endpoint = await call('/v1/endpoints/', { kind: 'webhook', url, events: ['*'] })
  await call(`/v1/endpoints/${endpoint.id}/test`)
  const first = await next()
  expect(new Webhook(endpoint.secret).verify(first.body, first.headers)).toMatchObject({ type: 'test' })

  const rolled = await call(`/v1/endpoints/${endpoint.id}/roll-secret`, {})
  await call('/v1/workspace/kill-switch', { active: true, reason: 'Ünïcode „quoted“ \u2028' })
  const second = await next()
  for (const secret of [endpoint.secret, rolled.secret]) {
    expect(new Webhook(secret).verify(second.body, second.headers)).toMatchObject({ type: 'kill_switch.changed' })
  }
  const verify = (body: string) => new Webhook(rolled.secret).verify(body, second.headers)
  expect(() => verify(second.body + ' ')).toThrow(WebhookVerificationError)
  expect(() => new Webhook(rolled.secret).verify(first.body, first.headers)).toThrow(WebhookVerificationError)
})
