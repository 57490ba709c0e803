"""The Claude Agent SDK with its own program, whose requests go to a stand-in for Anthropic on this machine."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, SdkMcpTool, create_sdk_mcp_server, tool
from pikarc.adapters.claude_agent import query
from trial import MODEL, Framework, Given

for name in [name for name in os.environ if name.startswith(("ANTHROPIC", "CLAUDE"))]:
    del os.environ[name]  # nothing of this machine's own settings reaches the program

START = {"input_tokens": 6, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0, "output_tokens": 1}
END = {"output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2}}


def answer(given: Given, messages: list[Any]) -> list[dict[str, Any]]:
    """The events of an answer: calls of all tools at the first turn, then the last words."""
    blocks = [{"type": "text", "text": "done"}]
    if first := given.is_first(messages):
        blocks = [{"type": "tool_use", "id": f"toolu_{name}", "name": f"mcp__tools__{name}", "input": {}} for name in given.tools]
    message = {"id": f"msg_{len(given.turns)}", "type": "message", "role": "assistant", "model": MODEL, "content": [],
               "stop_reason": None, "stop_sequence": None, "usage": START}  # fmt: skip
    events: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for i, block in enumerate(blocks):
        delta = {"type": "input_json_delta", "partial_json": "{}"} if first else {"type": "text_delta", "text": block["text"]}
        start = block if first else {**block, "text": ""}
        events.append({"type": "content_block_start", "index": i, "content_block": start})
        events.append({"type": "content_block_delta", "index": i, "delta": delta})
        events.append({"type": "content_block_stop", "index": i})
    ended = {"stop_reason": "tool_use" if first else "end_turn", "stop_sequence": None}
    return [*events, {"type": "message_delta", "delta": ended, "usage": END}, {"type": "message_stop"}]


@contextmanager
def stand_in(given: Given) -> Iterator[str]:
    """Serves Anthropic's Messages API, and yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            lines = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in answer(given, body["messages"])).encode()
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("content-length", str(len(lines)))
            self.end_headers()
            self.wfile.write(lines)

        def do_HEAD(self) -> None:
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def make_tool(name: str, fn: Any) -> SdkMcpTool[Any]:
    @tool(name, name, {})
    async def call(arguments: Any) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": await fn()}]}

    return call


def options(given: Given, url: str, directory: str, **more: Any) -> ClaudeAgentOptions:
    server = create_sdk_mcp_server("tools", "1.0.0", [make_tool(name, fn) for name, fn in given.tools.items()])
    settings = {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "k", "CLAUDE_CONFIG_DIR": directory, "IS_SANDBOX": "1",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}  # fmt: skip
    return ClaudeAgentOptions(
        model=MODEL, tools=[], mcp_servers={"tools": server}, allowed_tools=[f"mcp__tools__{name}" for name in given.tools],
        setting_sources=[], cwd=directory, env=settings, max_turns=5, **more,
    )  # fmt: skip


class ClaudeAgent(Framework):
    name, package = "Claude Agent SDK", "claude-agent-sdk"

    async def run(self, given: Given) -> None:
        with stand_in(given) as url, tempfile.TemporaryDirectory() as directory:
            async for _ in query(given.guard, prompt="go", options=options(given, url, directory)):
                pass


FRAMEWORKS = [ClaudeAgent()]
