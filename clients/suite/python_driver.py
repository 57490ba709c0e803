"""Carries the suite's cases out with the Python client, a line each: `python_driver.py async|sync`."""

import asyncio
import json
import sys

from pikarc import AsyncPikarc, Pikarc, PikarcBlockedError, PikarcError

USED = {"usage": {"prompt_tokens": 500, "completion_tokens": 100}}
HUGE = "x" * 50_000_000


class Own(Exception):
    pass


def raises(_):
    raise LookupError("no tokens here")


class Case:
    def __init__(self, ask):
        self.ask = ask
        self.done = {"called": 0, "error": "", "journal": 0}
        self.options = {name: ask[name] for name in ("timeout", "max_retries", "on_unavailable") if name in ask}
        self.options |= {"api_key": ask["api_key"], "base_url": ask["base_url"], "journal_dir": ask["journal_dir"]}
        self.metadata = {"made": object(), "itself": self.options} if ask.get("metadata") else None

    def returns(self, result):
        def function():
            self.done["called"] += 1
            return result

        return function

    def fails(self):
        self.done["called"] += 1
        raise Own("a\0b")

    def call(self, run, name):
        match name:
            case "model":
                return run.model_call(self.returns(USED), "suite-model")
            case "tool":
                return run.tool_call(self.returns("done"), "suite-tool")
            case "reviewed":
                return run.tool_call(self.returns("done"), "suite-reviewed")
            case "extractor raises":
                return run.model_call(self.returns(USED), "suite-model", token_extractor=raises)
            case "floats":
                return run.model_call(self.returns("said"), "suite-model", token_extractor=lambda _: (499.5, 100.0))
            case "50 MB":
                return run.tool_call(self.returns(HUGE), "suite-tool", input_data={"page": HUGE})
            case "NUL":
                return run.tool_call(self.fails, "suite-tool")

    def note(self, exc):
        self.done["error"] = type(exc).__name__.lstrip("_").replace("UnavailableStatus", "Unavailable")
        if isinstance(exc, Own):
            self.done["error"] = "its own"
        self.done["error"] = self.done["error"].replace("PikarcReviewDeniedError", "ReviewDenied")
        if isinstance(exc, PikarcBlockedError):
            self.done["reason"] = exc.deny_reason

    async def asynchronously(self):
        async with AsyncPikarc(**self.options) as client:
            if not self.ask["calls"]:
                await client.flush()
            else:
                try:
                    async with client.run(self.ask["user"], self.metadata) as run:
                        for call in self.ask["calls"]:
                            await self.call(run, call)
                except (PikarcError, Own) as exc:
                    self.note(exc)
            self.done["journal"] = client.journal_length

    def synchronously(self):
        with Pikarc(**self.options) as client:
            if not self.ask["calls"]:
                client.flush()
            else:
                try:
                    with client.run(self.ask["user"], self.metadata) as run:
                        for call in self.ask["calls"]:
                            self.call(run, call)
                except (PikarcError, Own) as exc:
                    self.note(exc)
            self.done["journal"] = client.journal_length


for line in sys.stdin:
    case = Case(json.loads(line))
    try:
        if sys.argv[1] == "async":
            asyncio.run(case.asynchronously())
        else:
            case.synchronously()
    except ValueError:
        case.done["error"] = "setting"
    print(json.dumps(case.done), flush=True)
