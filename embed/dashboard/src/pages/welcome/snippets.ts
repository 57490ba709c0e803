// What to type where the agent runs, with this server's address and the key filled in.
export type Language = 'python' | 'curl'
export type Line = { title: string; text: string; note?: string }

export function lines(language: Language, address: string, key: string): Line[] {
  return language === 'python' ? python(address, key) : curl(address, key)
}

function python(address: string, key: string): Line[] {
  return [
    { title: 'Install the client', text: 'pip install pikarc==0.1.0' },
    {
      title: 'Save this as agent.py',
      text: `import asyncio
from pikarc import AsyncPikarc

guard = AsyncPikarc(
    api_key="${key}",
    base_url="${address}",
)

async def ask_the_model():
    return "Here your agent calls its model."

async def main():
    async with guard.run(user_id="user-1", metadata={"task": "My first guarded run"}) as run:
        answer = await run.model_call(
            ask_the_model,
            model="gpt-4o",
            token_extractor=lambda answer: (500, 100),
        )
        print(answer)

asyncio.run(main())`,
      note: 'In code that others see, read the key from the environment.',
    },
    { title: 'Run it', text: 'python agent.py' },
  ]
}

function curl(address: string, key: string): Line[] {
  const call = (path: string, body: string) =>
    `curl -sS ${address}/v1/runs/${path} \\
  -H "Authorization: Bearer $PIKARC_API_KEY" \\
  -d '${body}'`
  return [
    { title: 'Set the API key', text: `export PIKARC_API_KEY=${key}` },
    {
      title: 'Start a run',
      text: `run_id=$(${call('', '{"user_id": "user-1", "metadata": {"task": "My first guarded run"}}')} |
  sed 's/^{"id":"\\([^"]*\\)".*/\\1/')`,
    },
    {
      title: 'Ask for a model call',
      text: call('$run_id/steps', '{"type": "MODEL_CALL", "sequence": 1, "model": "gpt-4o"}'),
    },
  ]
}
