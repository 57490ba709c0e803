"""The real server as a process, and what an operator does with it over plain HTTP.

Nothing here goes through the published client: the tests use that for the agent's side, and only for that.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import uuid
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

NANO_DOLLAR = Decimal("0.000000001")
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Price:
    """What a model costs, in USD per token, as decimal text."""

    input: str
    output: str

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """The contract's rule: exact, then rounded up to the nano-dollar."""
        exact = prompt_tokens * Decimal(self.input) + completion_tokens * Decimal(self.output)
        return exact.quantize(NANO_DOLLAR, ROUND_CEILING)


GPT_4O = Price(input="0.0000025", output="0.00001")


def read_json(text: str) -> Any:
    """Reads an answer with money as Decimal, and refuses scientific notation, which the contract rules out."""

    def plain_decimal(literal: str) -> Decimal:
        assert "e" not in literal.lower(), f"scientific notation: {literal}"
        return Decimal(literal)

    return json.loads(text, parse_float=plain_decimal)


def environment_without_settings() -> dict[str, str]:
    """This process's environment less every PIKARC_ variable, any of which could change what the binary does."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PIKARC_")}


class Server:
    """One `pikarc serve` on a free port of the loopback, over a data directory of its own."""

    def __init__(self, binary: Path, directory: Path) -> None:
        self.binary = binary
        self.data_dir = directory / "data"
        self._log = directory / "stderr.log"
        self._serve("127.0.0.1:0")
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE_SECONDS)

    def kill_and_restart(self) -> None:
        """Ends the server as a power cut would, and starts it again on the same address and data."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._serve(self.url.removeprefix("http://"))

    def _serve(self, address: str) -> None:
        settings = ["--addr", address, "--data-dir", self.data_dir, "--default-plan", "enterprise"]
        settings += ["--webhook-private"]  # the tests receive on the loopback
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, "serve", *settings],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment_without_settings(),
            )
        self.url = self._read_url()

    def _read_url(self) -> str:
        """Reads stdout up to the line that says where the server listens; a server that stays silent is killed."""
        deadline = threading.Timer(PATIENCE_SECONDS, self._process.kill)
        deadline.start()
        try:
            for line in self._process.stdout:
                if url := re.search(r"http://127\.0\.0\.1:\d+", line):
                    return url[0]
        finally:
            deadline.cancel()
        raise RuntimeError(f"pikarc serve said no address, exit {self._process.wait()}; its stderr:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The end of the server's stderr, enough to see why a test failed."""
        return self._log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """Ends the server as a service manager would, and insists that it ends cleanly."""
        self.http.close()
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = f"none {PATIENCE_SECONDS} s after SIGTERM, killed: {self._process.wait()}"
        finally:
            self._process.stdout.close()
        assert code == 0, f"pikarc serve ended with {code}; its stderr:\n{self.log_tail()}"

    def command(self, *arguments: str, stdin: str = "") -> Any:
        """Runs another subcommand on the same data while the server runs, and reads its JSON answer."""
        done = subprocess.run(
            [self.binary, *arguments, "--json", "--data-dir", self.data_dir],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env=environment_without_settings(),
        )
        assert done.returncode == 0, f"pikarc {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}"
        return json.loads(done.stdout)

    def create_account(self, plan: str) -> Account:
        """A fresh account with an empty workspace on this plan."""
        email = f"{uuid.uuid4()}@example.com"
        arguments = ("create-user", "--email", email, "--plan", plan, "--password-stdin")
        made = self.command(*arguments, stdin="correct horse battery\n")
        assert made["email"] == email and made["plan"] == plan
        admin = self.command("create-key", "--email", email, "--scope", "admin", "--label", "tests")
        return Account(self, email, made["api_key"], admin["key"])


@dataclass(frozen=True)
class Account:
    """One account and its workspace, configured and read with a key of scope admin; agents have another."""

    server: Server
    email: str
    api_key: str
    admin_key: str

    def request(self, method: str, path: str, body: Any = None, params: dict[str, Any] | None = None) -> httpx.Response:
        """One call with this account's admin key; the caller judges the status."""
        headers = {"Authorization": f"Bearer {self.admin_key}"}
        return self.server.http.request(method, path, json=body, params=params, headers=headers)

    def call(self, method: str, path: str, body: Any = None, params: dict[str, Any] | None = None) -> Any:
        """One call that must succeed, and its answer."""
        response = self.request(method, path, body, params)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return read_json(response.text)

    def rotated(self) -> Account:
        """The same account after another process has replaced its API key."""
        return replace(self, api_key=self.server.command("rotate-key", "--email", self.email)["key"])

    def workspace(self) -> Any:
        return self.call("GET", "/v1/workspace/")

    def configure(self, **settings: Any) -> Any:
        """Changes workspace settings; money as decimal text, None removes a budget."""
        return self.call("PATCH", "/v1/workspace/", settings)

    def set_price(self, model: str, price: Price) -> None:
        body = {"input_cost_per_token": price.input, "output_cost_per_token": price.output}
        self.call("PUT", f"/v1/model-pricing/{quote(model)}", body)

    def set_kill_switch(self, active: bool) -> None:
        self.call("POST", "/v1/workspace/kill-switch", {"active": active})

    def block(self, user_id: str) -> Any:
        """Blocks a user, with every reserved character of the id escaped, the slash too."""
        return self.call("PUT", f"/v1/blocked-users/{quote(user_id, safe='')}", {"reason": "test"})

    def unblock(self, user_id: str) -> Any:
        """Unblocks a user, with the slashes of the id left as they are: the path allows either form."""
        return self.call("DELETE", f"/v1/blocked-users/{quote(user_id, safe='/')}")

    def runs(self, **filters: Any) -> list[Any]:
        """Run summaries, newest first, up to the 200 of one page."""
        return self.call("GET", "/v1/runs/", params={"limit": 200, **filters})["items"]

    def run(self, run_id: str) -> Any:
        return self.call("GET", f"/v1/runs/{run_id}")

    def end_run(self, run_id: str, status: str) -> Any:
        return self.call("POST", f"/v1/runs/{run_id}/end", {"status": status})

    def usage(self) -> Any:
        return self.call("GET", "/v1/usage/")
