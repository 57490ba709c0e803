import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).parent
BINARY = os.environ.pop("PIKARC_BINARY")
PASSWORD = "correct horse battery staple"
SDKS = {"python": [sys.executable, str(HERE / "{}.py")], "typescript": ["node", str(HERE / "{}.mjs")]}


def sdk(name: str, part: str) -> list[str]:
    return [word.format(part) for word in SDKS[name]]


class Process:
    """A process whose lines are read and written."""

    def __init__(self, command: list[str], env: dict | None = None) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=os.environ | (env or {})
        )

    def line(self) -> str:
        return self.process.stdout.readline().rstrip("\n")

    def do(self, op: str, **more) -> dict:
        self.process.stdin.write(json.dumps({"op": op, **more}) + "\n")
        self.process.stdin.flush()
        line = self.line()
        return json.loads(line) if line else {"ended": True}

    def call(self, name: str, **args) -> dict:
        return self.do("call", name=name, args=args)

    def close(self) -> int:
        self.process.stdin.close()
        return self.process.wait(30)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            finally:
                self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()


class Pikarc:
    """The real server, with an account."""

    def __init__(self, directory: Path) -> None:
        made = subprocess.run(
            [BINARY, "create-user", "--init", "--plan", "enterprise", "--data-dir", directory, "--email", "ann@example.com", "--password-stdin", "--json"],
            input=PASSWORD, capture_output=True, text=True, check=True,
        )
        self.key = json.loads(made.stdout)["api_key"]
        self.server = Process([BINARY, "serve", "--data-dir", str(directory), "--addr", "127.0.0.1:0", "--log-level", "error"])
        self.url = self.server.line().rsplit(" ", 1)[-1]
        self.token = self.call("POST", "/v1/auth/login", {"email": "ann@example.com", "password": PASSWORD})["access_token"]

    def call(self, method: str, path: str, body: dict | None = None) -> dict:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None, method=method)
        request.add_header("Authorization", f"Bearer {getattr(self, 'token', '')}")
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def kill_switch(self, active: bool) -> None:
        self.call("POST", "/v1/workspace/kill-switch", {"active": active})

    def steps(self, user: str) -> list[str]:
        """Tools and statuses of the user's steps, in their order."""
        found = []
        for run in reversed(self.call("GET", f"/v1/runs/?user_id={user}")["items"]):
            found += [f"{step['tool_name']} {step['status']}" for step in self.call("GET", f"/v1/runs/{run['id']}")["steps"]]
        return found

    def runs(self, user: str) -> list[str]:
        return [run["status"] for run in self.call("GET", f"/v1/runs/?user_id={user}")["items"]]


@pytest.fixture(scope="session")
def pikarc(tmp_path_factory):
    server = Pikarc(tmp_path_factory.mktemp("pikarc") / "data")
    yield server
    server.server.stop()


class Guarded:
    """A client of one SDK before a server of another, with the gateway between."""

    def __init__(self, pikarc: Pikarc, kind: str, client: str, server: str, user: str) -> None:
        self.user, self.processes = user, []
        env = {"PIKARC_API_KEY": pikarc.key, "PIKARC_BASE_URL": pikarc.url}
        target = [BINARY, "mcp", "--user", user, "--", *sdk(server, "server"), "stdio"]
        if kind == "http":
            upstream = self.start(Process([*sdk(server, "server"), "http"])).line()
            self.gateway = self.start(Process([BINARY, "mcp", "--user", user, "--upstream", upstream, "--listen", "127.0.0.1:0"], env))
            target = [self.gateway.line().rsplit(" ", 1)[-1]]
        else:  # the Python client passes on little of its environment
            target = ["env", f"PIKARC_API_KEY={pikarc.key}", f"PIKARC_BASE_URL={pikarc.url}", *target]
        self.client = self.start(Process([*sdk(client, "client"), kind, *target], env))

    def start(self, process: Process) -> Process:
        self.processes.append(process)
        return process

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()


@pytest.fixture(params=["stdio", "http"])
def kind(request):
    return request.param


@pytest.fixture(params=list(SDKS), ids=lambda name: f"{name}-client")
def client_sdk(request):
    return request.param


@pytest.fixture(params=list(SDKS), ids=lambda name: f"{name}-server")
def server_sdk(request):
    return request.param


@pytest.fixture
def guarded(pikarc, kind, client_sdk, server_sdk, request):
    user = f"{request.function.__name__}-{kind}-{client_sdk}-{server_sdk}"
    made = Guarded(pikarc, kind, client_sdk, server_sdk, user)
    yield made
    made.stop()
