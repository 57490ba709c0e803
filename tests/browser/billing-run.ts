// A run with everything in it that the page of a run tells apart, as an agent of a shop would make it.
import type { Account, Server } from './server'

const price = { input_cost_per_token: '0.0000025', output_cost_per_token: '0.00001' }
export const PROMPT = '27 customers were charged twice on 27 November. Refund the second charge of each.'

/** Makes it; it ends denied by the user's budget. */
export async function billingRun(server: Server, account: Account, user = 'cust-1042', repeats = 8): Promise<string> {
  for (const model of ['gpt-4o', 'claude-sonnet-4'])
    await server.call(account.token, 'PUT', `/v1/model-pricing/${model}`, price)
  await server.call(account.token, 'PATCH', '/v1/workspace/', { user_daily_budget_usd: 1.5 })
  const agent = server.agent(account)
  const { id } = await agent.start(user, { title: 'Refund the double charges', agent: 'billing' })
  let n = 0
  const talk = (content: string) => ({
    messages: [
      { role: 'system', content: 'You are the billing agent.' },
      { role: 'user', content },
    ],
  })
  await agent.step(id, ++n, { type: 'INPUT', input_data: { text: PROMPT } }, { ms: 5 })
  await agent.step(
    id,
    ++n,
    { model: 'claude-sonnet-4', input_data: talk(PROMPT) },
    { prompt: 4000, completion: 100, ms: 30, output: { role: 'assistant', content: 'I look for the double charges first.' } },
  )
  const both = ['search_orders', 'get_customer']
  const asked = await Promise.all(
    both.map((tool_name, i) => agent.ask(id, n + 1 + i, { tool_name, input_data: { date: '2026-11-27', page: i } })),
  )
  for (const { id: step } of asked) await agent.report(id, step, { ms: 40, output: ['a', 'b', 'c'] })
  n += 2
  await agent.step(id, ++n, { tool_name: 'send_email', input_data: { to: 'billing@northwind.example' } }, { ms: 8, error: 'SMTP 451: try again later' })
  for (let round = 0; round < repeats; round++) {
    await agent.step(id, ++n, { model: 'gpt-4o', input_data: talk(`Round ${round}`) }, { prompt: 3000, completion: 100, ms: 4, output: { role: 'assistant', content: 'Again.' } })
    await agent.step(id, ++n, { tool_name: 'search_orders', input_data: { date: '2026-11-27', duplicates: true } }, { ms: 2, output: '27 orders' })
  }
  const call = { type: 'function', function: { name: 'refund', arguments: '{"order":"A-20417","amount":95}' } }
  await agent.step(
    id,
    ++n,
    { model: 'claude-sonnet-4', input_data: talk('The search returns 27 orders.') },
    { prompt: 500_000, completion: 20_000, ms: 20, output: { role: 'assistant', content: 'I go on with the next one.', tool_calls: [call] } },
  )
  await agent.ask(id, ++n, { tool_name: 'refund', input_data: { order: 'A-20417', amount: 95 } })
  await agent.end(id, 'BLOCKED')
  return id
}
