"""Carries the suite's cases out with the Python client, a line each: `python_driver.py async|sync`."""

import asyncio
import json
import sys

from pikarc import AsyncPikarc, Pikarc, PikarcBlockedError, PikarcError


class Case:
    def __init__(self, ask):
        self.ask = ask
        self.done = {"called": 0, "error": ""}
        self.options = {name: ask[name] for name in ("timeout", "max_retries", "on_unavailable") if name in ask}
        self.options |= {"api_key": ask["api_key"], "base_url": ask["base_url"], "journal_dir": ask["journal_dir"]}

    def model(self):
        self.done["called"] += 1
        return {"usage": {"prompt_tokens": 500, "completion_tokens": 100}}

    def tool(self):
        self.done["called"] += 1
        return "done"

    def note(self, exc):
        self.done["error"] = type(exc).__name__.lstrip("_").replace("UnavailableStatus", "Unavailable")
        if isinstance(exc, PikarcBlockedError):
            self.done["reason"] = exc.deny_reason

    async def asynchronously(self):
        async with AsyncPikarc(**self.options) as client:
            if not self.ask["calls"]:
                await client.flush()
            else:
                try:
                    async with client.run(self.ask["user"]) as run:
                        for call in self.ask["calls"]:
                            if call == "model":
                                await run.model_call(self.model, "suite-model")
                            else:
                                await run.tool_call(self.tool, "suite-tool")
                except PikarcError as exc:
                    self.note(exc)
            self.done["journal"] = client.journal_length

    def synchronously(self):
        with Pikarc(**self.options) as client:
            if not self.ask["calls"]:
                client.flush()
            else:
                try:
                    with client.run(self.ask["user"]) as run:
                        for call in self.ask["calls"]:
                            if call == "model":
                                run.model_call(self.model, "suite-model")
                            else:
                                run.tool_call(self.tool, "suite-tool")
                except PikarcError as exc:
                    self.note(exc)
            self.done["journal"] = client.journal_length


for line in sys.stdin:
    case = Case(json.loads(line))
    if sys.argv[1] == "async":
        asyncio.run(case.asynchronously())
    else:
        case.synchronously()
    print(json.dumps(case.done), flush=True)
