"""A client of the reference SDK for Python: does what it is told, a line each, and writes what came of it.

client.py http URL | client.py stdio COMMAND...
"""

import contextlib
import json
import sys

import anyio
from mcp import Client, MCPError, StdioServerParameters, stdio_client


def shown(result) -> dict:
    content = "".join(part.text for part in result.content)
    return {"text": content if len(content) < 2000 else len(content), "is_error": bool(result.is_error)}


async def cancelled(client: Client) -> dict:
    """Calls off a call once it is under way."""
    started = anyio.Event()

    async def progress(*_) -> None:
        started.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: client.call_tool("slow", {}, progress_callback=progress))
        await started.wait()
        tasks.cancel_scope.cancel()
    return {"cancelled": True}


async def act(client: Client, ask: dict) -> dict:
    match ask["op"]:
        case "tools":
            return {"tools": sorted(tool.name for tool in (await client.list_tools()).tools)}
        case "call":
            return shown(await client.call_tool(ask["name"], ask.get("args", {})))
        case "progress":
            seen = []

            async def progress(done, *_) -> None:
                seen.append(done)

            return shown(await client.call_tool("steps", {"n": 3}, progress_callback=progress)) | {"progress": seen}
        case "cancel":
            return await cancelled(client)
        case "read":
            return {"text": (await client.read_resource("note://today")).contents[0].text}
        case "prompt":
            return {"text": (await client.get_prompt("greet", {"name": "Ada"})).messages[0].content.text}
    raise ValueError(ask)


async def main() -> None:
    kind, target = sys.argv[1], sys.argv[2:]
    transport = target[0] if kind == "http" else stdio_client(StdioServerParameters(command=target[0], args=target[1:]))
    with contextlib.suppress(BaseExceptionGroup):  # the server may be gone by then
        async with Client(transport, cache=None) as client:
            lines = anyio.wrap_file(sys.stdin)
            async for line in lines:
                try:
                    done = await act(client, json.loads(line))
                except MCPError as error:
                    done = {"error": error.error.message, "code": error.error.code}
                print(json.dumps(done), flush=True)


anyio.run(main)
