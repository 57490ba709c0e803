"""An MCP server of the reference SDK for Python, over stdio or streamable HTTP (it prints its address)."""

import os
import socket
import sys

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("reference")
calls = 0


@server.tool()
def count() -> str:
    """Counts how often it was called."""
    global calls
    calls += 1
    return f"call {calls}"


@server.tool()
def fail() -> str:
    """Fails."""
    raise ToolError("it does not work")


@server.tool()
async def steps(n: int, ctx: Context) -> str:
    """Reports progress."""
    for i in range(n):
        await ctx.report_progress(i + 1, n)
    return "done"


@server.tool()
async def slow(ctx: Context) -> str:
    """Goes on until it is cancelled."""
    await ctx.report_progress(1, 2)
    await anyio.sleep_forever()
    return "never"


@server.tool()
def big(size: int) -> str:
    """Returns a long text, in which nothing is plain ASCII alone."""
    return "xä" * (size // 2)


@server.tool()
def crash() -> str:
    """Ends the server at once."""
    os._exit(3)


@server.tool()
def environment() -> str:
    """Names what the server could act with."""
    return " ".join(sorted(name for name in os.environ if name.startswith("PIKARC_")))


@server.resource("note://today")
def note() -> str:
    return "a note"


@server.prompt()
def greet(name: str) -> str:
    return f"Greet {name}"


if sys.argv[1] == "stdio":
    server.run("stdio")
else:
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning")).run(sockets=[listener])
