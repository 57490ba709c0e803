// What to type where the agent runs, with this server's address and the key filled in: three lines for each.
export const languages = [
  { value: 'python', label: 'Python' },
  { value: 'typescript', label: 'TypeScript' },
  { value: 'go', label: 'Go' },
  { value: 'curl', label: 'curl' },
  { value: 'claude-code', label: 'Claude Code' },
  { value: 'mcp', label: 'MCP' },
] as const

export type Language = (typeof languages)[number]['value']
export type Line = { title: string; text: string; note?: string; /** It is a program. */ code?: true }

/** The lines of a program that are the guard's; the rest is the agent's own. */
export const OF_GUARD = /pikarc|guard[.:]|model_?call|const about|about := /i

/** The server as an agent reaches it. wheel is the Python client that it carries; null for a server that carries none. */
export type Place = { address: string; key: string; wheel: string | null; tarball: boolean }

const DEFAULT_ADDRESS = 'http://localhost:8000'
const HOST = 'On the machine of your agent, with the pikarc binary in its PATH.'

export function lines(language: Language, place: Place): [Line, Line, Line] {
  switch (language) {
    case 'typescript':
      return [environment(place), typescript, runTypescript(place)]
    case 'go':
      return [environment(place), go, runGo]
    case 'curl':
      return curl(place)
    case 'claude-code':
      return [environment(place), hook, doctor]
    case 'mcp':
      return mcp(place)
    default:
      return [environment(place), python, runPython(place)]
  }
}

function variables({ address, key }: Place): string[] {
  const set = [`PIKARC_API_KEY=${key}`]
  return address === DEFAULT_ADDRESS ? set : [...set, `PIKARC_BASE_URL=${address}`]
}

function environment(place: Place): Line {
  return {
    title: 'Set the API key',
    text: variables(place)
      .map((set) => `export ${set}`)
      .join('\n'),
  }
}

const NOT_PACKED = {
  text: 'make build',
  note: 'This server was built without its clients: build it again where Python, with venv, and npm are.',
}

const python: Line = {
  code: true,
  title: 'Put the guard around your agent, in agent.py',
  text: `from pikarc import Pikarc

def ask_the_model():
    return {"text": "Here your agent calls its model.",
            "usage": {"prompt_tokens": 500, "completion_tokens": 100}}

with Pikarc() as guard, guard.run(user_id="user-1", metadata={"task": "My first guarded run"}) as run:
    answer = run.model_call(ask_the_model, model="gpt-4o")

print(answer["text"])`,
  note:
    'With asyncio it is AsyncPikarc. An agent of LangChain, Pydantic AI, CrewAI, Google ADK, or the SDKs of OpenAI and ' +
    'Anthropic takes one line instead: docs/adapters.md has it, with an example of each.',
}

function runPython({ address, wheel }: Place): Line {
  const title = 'Install the client that this server carries, and run it'
  if (!wheel) return { title, ...NOT_PACKED }
  const file = `${address}/clients/${wheel}`
  return {
    title,
    text: `python3 -m venv .venv\n.venv/bin/pip install ${file}\n.venv/bin/python agent.py`,
    note: `With uv: uv run --with ${file} agent.py`,
  }
}

const typescript: Line = {
  code: true,
  title: 'Put the guard around your agent, in agent.mjs',
  text: `import { Pikarc } from "pikarc";

const askTheModel = async () => ({
  text: "Here your agent calls its model.",
  usage: { prompt_tokens: 500, completion_tokens: 100 },
});

const guard = new Pikarc();
const about = { userId: "user-1", metadata: { task: "My first guarded run" } };
const answer = await guard.run(about, (run) => run.modelCall(askTheModel, { model: "gpt-4o" }));

console.log(answer.text);`,
  note:
    "Types are in the package. An agent of Vercel's AI SDK, LangChain, or the SDKs of OpenAI and Anthropic takes one line " +
    'instead: docs/adapters.md has it, with examples.',
}

function runTypescript({ address, tarball }: Place): Line {
  const title = 'Install the client that this server carries, and run it'
  return tarball
    ? { title, text: `npm install ${address}/clients/pikarc.tgz\nnode agent.mjs` }
    : { title, ...NOT_PACKED }
}

const go: Line = {
  code: true,
  title: 'Put the guard around your agent, in main.go',
  text: `package main

import (
	"context"
	"fmt"
	"log"

	pikarc "github.com/pikarc/server/clients/go"
)

type answer struct{ text string }

func (answer) Tokens() (prompt, completion int64) { return 500, 100 }

func askTheModel(context.Context) (answer, error) {
	return answer{"Here your agent calls its model."}, nil
}

func main() {
	guard, err := pikarc.New()
	if err != nil {
		log.Fatal(err)
	}
	about := map[string]any{"task": "My first guarded run"}
	err = guard.Run(context.Background(), "user-1", about, func(ctx context.Context, run *pikarc.Run) error {
		got, err := pikarc.ModelCall(ctx, run, "gpt-4o", nil, askTheModel)
		fmt.Println(got.text)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}`,
  note: 'The clients of OpenAI and Anthropic take one line instead: option.WithMiddleware(guard.Middleware).',
}

const runGo: Line = {
  title: 'Get the client, and run it',
  text: 'go mod init agent\ngo get github.com/pikarc/server/clients/go\ngo run .',
}

const hook: Line = {
  title: 'Install the hook',
  text: 'pikarc hook install claude-code',
  note: `${HOST} Codex is guarded in the same way: pikarc hook install codex.`,
}

const doctor: Line = {
  title: 'Prove that a denied call is really stopped',
  text: 'pikarc doctor --agent claude-code',
  note: 'Then start Claude Code and let it use any tool.',
}

function mcp(place: Place): [Line, Line, Line] {
  const env = Object.fromEntries(variables(place).map((set) => set.split('=', 2)))
  const args = ['mcp', '--', 'npx', '-y', '@modelcontextprotocol/server-filesystem', '.']
  const settings = `{"mcpServers": {"files": {
  "command": "pikarc",
  "args": ${JSON.stringify(args).replaceAll(',', ', ')},
  "env": ${JSON.stringify(env, null, 2).replaceAll('\n', '\n  ')}
}}}`
  return [
    {
      title: 'See that this server can be asked',
      text: `${environment(place).text}\npikarc doctor`,
      note: HOST,
    },
    {
      title: 'Write the gateway before the command of your MCP server',
      text: settings,
      note: 'Start the client again and call any tool. Everything but tools, resources and prompts passes as it is.',
    },
    { title: 'Or before a server that speaks HTTP', text: 'pikarc mcp --upstream http://localhost:3000/mcp' },
  ]
}

function curl(place: Place): [Line, Line, Line] {
  const call = (path: string, body: string) =>
    `curl -sS ${place.address}/v1/runs/${path} \\
  -H "Authorization: Bearer $PIKARC_API_KEY" \\
  -d '${body}'`
  return [
    { title: 'Set the API key', text: `export PIKARC_API_KEY=${place.key}` },
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
