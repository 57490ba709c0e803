"""Writes docs/adapters.md from results/*.json, which the conformance suites write.

    python3 clients/adapters/page.py [--check]      --check changes nothing, and fails where the page is not up to date
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "adapters.md"
EXAMPLES = HERE.parents[1] / "examples"

HEAD = """\
# Adapters

<!-- Written by clients/adapters/page.py from what `make adapters` found: do not edit. -->

An adapter guards the agents of one framework with one line of code. The adapters come with the
clients ([Python](../clients/python/README.md), [TypeScript](../clients/typescript/README.md),
[Go](../clients/go/README.md)), as extras or subpaths.

{lines}

All calls belong to a run (`async with guard.run(user_id="ada")`,
`guard.run({{ userId: "ada" }}, ...)`); when it ends, steps that are still open are closed. A denied
tool is not called, and the model is told so in a sentence; with `on_denied="raise"`
(`onDenied: "throw"`) the exception is raised instead. A denied model call, and any failure of the
guard itself, always raise: the agent stops.

## What is tested

`make adapters` tests each of these with the real framework at the version shown, its own fake model
or a stand-in for the provider, and the real server. Faults are injected where the adapter asks for
a tool's step; the kill switch makes the denial.

{properties}

{matrix}
{notes}"""

# Framework, language, the one line, its example.
LINES = [
    ("OpenAI Agents SDK", "Python", "`await PikarcRunner(guard).run(agent, \"Hello\")`", "with_openai_agents.py"),
    ("OpenAI Agents SDK", "TypeScript", "`pikarcAgent(guard, agent)`, `pikarcProvider(guard, provider)`", "with_openai_agents.mjs"),
    ("Pydantic AI", "Python", "`Agent(model, capabilities=[PikarcCapability(guard)])`", "with_pydantic_ai.py"),
    ("LangChain, LangGraph", "Python", "`create_agent(model, tools, middleware=[PikarcMiddleware(guard)])`", "with_langchain.py"),
    ("LangChain", "TypeScript", "`middleware: [pikarcMiddleware(guard, { ToolMessage })]`", "with_langchain.mjs"),
    ("Google ADK", "Python", "`App(name=\"app\", root_agent=agent, plugins=[PikarcPlugin(guard)])`", "with_google_adk.py"),
    ("CrewAI", "Python", "`PikarcHooks(guard).register()`", "with_crewai.py"),
    ("Vercel AI SDK", "TypeScript", "`pikarcMiddleware(guard)`, `pikarcTools(guard, tools)`", "with_ai_sdk.mjs"),
    ("Claude Agent SDK", "Python", "`async for message in query(guard, prompt=\"Hello\", options=options)`", "with_claude_agent.py"),
    ("Claude Agent SDK", "TypeScript", "`pikarcQuery(guard, query, { prompt, options })`", "with_claude_agent.mjs"),
    ("OpenAI, Anthropic and more", "Python, TypeScript", "`guard.wrap(client)`", "with_openai.ts"),
    ("OpenAI, Anthropic", "Go", "`openai.NewClient(option.WithMiddleware(guard.Middleware))`", ""),
]


def results() -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for path in sorted((HERE / "results").glob("*.json")):
        language = "TypeScript" if path.stem.startswith("typescript") else "Python"
        found += [{"language": language, **result} for result in json.loads(path.read_text())]
    return found


def page() -> str:
    found = results()
    properties = list(dict.fromkeys(r["property"] for r in found))
    frameworks = list(dict.fromkeys((r["language"], r["framework"], r["version"]) for r in found))
    cells = {(r["language"], r["framework"], r["property"]): r for r in found}
    if empty := [(f, p) for f in frameworks for p in properties if (f[0], f[1], p) not in cells]:
        sys.exit(f"page.py: nothing is known of {empty}")
    listed = (EXAMPLES / "README.md").read_text()
    if unlisted := [p.name for p in EXAMPLES.iterdir() if f"({p.name})" not in listed and p.name != "README.md"]:
        sys.exit(f"page.py: examples/README.md does not have {unlisted}")
    notes: list[str] = []

    def cell(result: dict[str, object]) -> str:
        reason = str(result["reason"])
        if not reason:
            if not result["holds"]:
                sys.exit(f"page.py: {result['framework']}: {result['property']} does not hold, and nothing says why")
            return "yes"
        if reason not in notes:
            notes.append(reason)
        return f"{'yes' if result['holds'] else 'no'} ({notes.index(reason) + 1})"

    matrix = ["| framework | version | " + " | ".join(str(i + 1) for i in range(len(properties))) + " |"]
    matrix.append("|---" * (len(properties) + 2) + "|")
    for language, framework, version in sorted(frameworks, key=lambda f: (str(f[0]), str(f[1]).lower())):
        row = " | ".join(cell(cells[language, framework, p]) for p in properties)
        matrix.append(f"| {framework} ({language}) | {version} | {row} |")
    lines = ["| framework | language | the line | an example |", "|---|---|---|---|"]
    for framework, language, line, example in LINES:
        link = f"[{example}](../examples/{example})" if example else ""
        lines.append(f"| {framework} | {language} | {line} | {link} |")
    return HEAD.format(
        lines="\n".join(lines),
        properties="\n".join(f"{i + 1}. {p}" for i, p in enumerate(properties)),
        matrix="\n".join(matrix),
        notes="\n" + "\n".join(f"({i + 1}) {note}.  " for i, note in enumerate(notes)) + "\n" if notes else "",
    )


if __name__ == "__main__":
    text = page()
    if sys.argv[1:] != ["--check"]:
        PAGE.write_text(text)
    elif PAGE.read_text() != text:
        sys.exit("docs/adapters.md is not what the adapters' results say: run `python3 clients/adapters/page.py`")
