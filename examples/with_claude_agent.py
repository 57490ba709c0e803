"""An agent of the Claude Agent SDK under Pikarc's guard, without a model key: a server in this file stands in for Anthropic's.

    pip install "pikarc[claude-agent-sdk] @ http://localhost:8000/clients/pikarc-1.0.0-py3-none-any.whl"
    PIKARC_API_KEY=lg_... python examples/with_claude_agent.py
"""

import asyncio
import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, create_sdk_mcp_server, tool
from pikarc import AsyncPikarc
from pikarc.adapters.claude_agent import query

REFUND = "mcp__shop__refund"


@tool("refund", "Refunds an order.", {"order": int})
async def refund(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": f"order {arguments['order']} is refunded"}]}


class PretendedModel(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        block: dict[str, Any] = {"type": "text", "text": ""}
        delta, reason = {"type": "text_delta", "text": "Order 3 is refunded."}, "end_turn"
        if "tool_result" not in json.dumps(asked["messages"]):
            block = {"type": "tool_use", "id": "toolu_1", "name": REFUND, "input": {}}
            delta, reason = {"type": "input_json_delta", "partial_json": '{"order": 3}'}, "tool_use"
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "content": [],
                   "usage": {"input_tokens": 500, "output_tokens": 1}}  # fmt: skip
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in (
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 100}},
            {"type": "message_stop"},
        ):
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())

    def do_HEAD(self) -> None:
        self.send_error(404)

    do_GET = do_HEAD

    def log_message(self, *args: Any) -> None:
        pass


async def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), PretendedModel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as directory:
        options = ClaudeAgentOptions(
            model="pretended-model",
            tools=[],
            mcp_servers={"shop": create_sdk_mcp_server("shop", "1.0.0", [refund])},
            allowed_tools=[REFUND],
            setting_sources=[],
            # In your own agent: neither of the two below, but your key.
            cwd=directory,
            env={"ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}", "ANTHROPIC_API_KEY": "none",
                 "CLAUDE_CONFIG_DIR": directory, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "IS_SANDBOX": "1"},
        )  # fmt: skip
        async with AsyncPikarc() as guard, guard.run(user_id="ada") as run:
            async for message in query(guard, prompt="Refund order 3.", options=options):
                if isinstance(message, ResultMessage):
                    print(message.result, "Run", run.run_id)


asyncio.run(main())
