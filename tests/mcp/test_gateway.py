"""The gateway between clients and servers of the reference SDKs, each with each, over both transports."""

import time

# The characters of the largest result that a client takes, where it has a limit of its own
# or is slow.
SIZES = {("stdio", "typescript"): 3_000_000, ("http", "python"): 600_000, ("stdio", "python"): 3_000_000}
TOOLS = ["big", "count", "crash", "environment", "fail", "slow", "steps"]


def settled(pikarc, user, want):
    """Reports follow the answers: waits for them."""
    until = time.monotonic() + 30
    while (got := pikarc.steps(user)) != want and time.monotonic() < until:
        time.sleep(0.05)
    assert got == want


def test_a_session(pikarc, guarded, kind, client_sdk):
    client = guarded.client
    assert client.do("tools") == {"tools": TOOLS}
    assert client.call("count") == {"text": "call 1", "is_error": False}
    failed = client.call("fail")
    assert failed["is_error"] and "it does not work" in failed["text"]
    assert client.do("progress") == {"text": "done", "is_error": False, "progress": [1, 2, 3]}
    assert client.do("read") == {"text": "a note"}
    assert client.do("prompt") == {"text": "Greet Ada"}
    size = SIZES.get((kind, client_sdk), 20_000_000)
    assert client.call("big", size=size) == {"text": size, "is_error": False}
    assert client.do("cancel") == {"cancelled": True}
    assert client.call("count")["text"] == "call 2"
    if kind == "stdio":  # what is guarded cannot act for its guard
        assert "PIKARC_API_KEY" not in client.call("environment")["text"].split()
    want = ["count COMPLETED", "fail FAILED", "steps COMPLETED", "resources/read COMPLETED", "prompts/get COMPLETED",
            "big COMPLETED", "slow FAILED", "count COMPLETED", *["environment COMPLETED"] * (kind == "stdio")]  # fmt: skip
    settled(pikarc, guarded.user, want)
    assert pikarc.runs(guarded.user) == ["RUNNING"]
    client.close()
    if kind == "http":
        guarded.gateway.stop()
    until = time.monotonic() + 30
    while pikarc.runs(guarded.user) != ["COMPLETED"] and time.monotonic() < until:
        time.sleep(0.05)
    assert pikarc.runs(guarded.user) == ["COMPLETED"]


def test_a_denied_call_is_not_executed(pikarc, guarded):
    client = guarded.client
    assert client.call("count")["text"] == "call 1"
    pikarc.kill_switch(True)
    try:
        denied = client.call("count")
        assert denied["is_error"] and "not executed" in denied["text"] and "All agents of this workspace are stopped" in denied["text"]
        for op in ("read", "prompt"):
            refused = client.do(op)
            assert refused["code"] == -32003 and "All agents" in refused["error"]
        assert client.do("tools") == {"tools": TOOLS}  # everything else goes on
    finally:
        pikarc.kill_switch(False)
    assert client.call("count")["text"] == "call 2"
    settled(pikarc, guarded.user, ["count COMPLETED", "count BLOCKED", "resources/read BLOCKED", "prompts/get BLOCKED", "count COMPLETED"])


def test_a_server_that_crashes(pikarc, guarded, kind):
    client = guarded.client
    assert client.call("count")["text"] == "call 1"
    ended = client.call("crash")
    assert "error" in ended or "ended" in ended
    settled(pikarc, guarded.user, ["count COMPLETED", "crash FAILED"])
    if kind == "stdio":
        assert pikarc.runs(guarded.user) == ["FAILED"]


def test_without_a_server_of_ours_nothing_is_called(pikarc, kind, client_sdk, server_sdk):
    from conftest import Guarded

    class Gone:
        key, url = pikarc.key, "http://127.0.0.1:9"

    guarded = Guarded(Gone(), kind, client_sdk, server_sdk, "nobody")
    try:
        client = guarded.client
        assert client.do("tools") == {"tools": TOOLS}
        for _ in range(2):
            stopped = client.call("count")
            assert stopped["is_error"] and "its guard (Pikarc) has made no decision" in stopped["text"]
        assert "no decision" in client.do("read")["error"]
    finally:
        guarded.stop()
