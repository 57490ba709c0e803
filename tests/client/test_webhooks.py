"""Webhooks, checked by the library that Standard Webhooks itself gives to receivers."""

from __future__ import annotations

import http.server
import queue
import threading
from collections.abc import Iterator

import pytest
from harness import PATIENCE_SECONDS, Server
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

Received = tuple[dict[str, str], bytes]


@pytest.fixture
def receiver() -> Iterator[tuple[str, queue.Queue[Received]]]:
    received: queue.Queue[Received] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.put(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/", received
    httpd.shutdown()
    httpd.server_close()


def test_the_library_of_standard_webhooks_takes_each_signature(
    server: Server, receiver: tuple[str, queue.Queue[Received]]
) -> None:
    url, received = receiver
    account = {"email": "webhooks@example.com", "password": "correct horse battery"}
    server.command("create-user", "--email", account["email"], "--password-stdin", stdin=account["password"])
    token = server.http.post("/v1/auth/login", json=account).json()["access_token"]

    def call(path: str, body: object = None) -> dict:
        answer = server.http.post(path, json=body, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code < 300, answer.text
        return answer.json()

    endpoint = call("/v1/endpoints/", {"kind": "webhook", "url": url, "events": ["*"]})
    call(f"/v1/endpoints/{endpoint['id']}/test")
    headers, body = received.get(timeout=PATIENCE_SECONDS)
    assert Webhook(endpoint["secret"]).verify(body, headers)["type"] == "test"

    rolled = call(f"/v1/endpoints/{endpoint['id']}/roll-secret", {})
    call(f"/v1/endpoints/{endpoint['id']}/test")
    headers, body = received.get(timeout=PATIENCE_SECONDS)
    for secret in (endpoint["secret"], rolled["secret"]):
        assert Webhook(secret).verify(body, headers)["type"] == "test"
    with pytest.raises(WebhookVerificationError):
        Webhook(rolled["secret"]).verify(body + b" ", headers)
