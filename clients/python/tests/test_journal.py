"""Reports that cannot be delivered outlive the process that made them, and are booked once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import httpx
import pikarc._journal
import pytest
from conftest import MODEL
from pikarc import AsyncPikarc, Pikarc, Unavailable
from pikarc._journal import Journal

USED = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}


class Cut(httpx.HTTPTransport):
    """Lets nothing of one method through."""

    def __init__(self, *methods):
        super().__init__()
        self.methods = methods

    def handle_request(self, request):
        if request.method in self.methods:
            raise httpx.ConnectError("cut", request=request)
        return super().handle_request(request)


@contextmanager
def cut_off(options, *methods, **more):
    """A client that the server hears no reports of, or none of some other methods."""
    transport = Cut(*(methods or ("PATCH",)))
    with httpx.Client(transport=transport) as http_client, Pikarc(**options, max_retries=0, http_client=http_client, **more) as client:
        yield client


def in_a_process(code, options):
    """Starts a process that makes one model call whose report is kept, says so, and waits to be killed."""
    code = textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


KEEPS = """
    import json, sys
    from test_journal import MODEL, USED, cut_off
    with cut_off(json.loads(sys.argv[1])) as client:
        with client.run("ada") as run:
            run.model_call(lambda: USED, MODEL)
        print(client.journal_length, flush=True)
        sys.stdin.read()
"""


def test_what_a_killed_process_has_kept_the_next_one_delivers(options, details):
    process = in_a_process(KEEPS, options)
    assert process.stdout.readline() == "1\n"
    with Pikarc(**options) as client:
        assert client.journal_length == 1
        assert client.flush() == 0  # it is the living process's to deliver
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert client.flush() == 1
        assert (client.journal_length, client.flush()) == (0, 0)
    (run,) = details()
    assert [(s["status"], s["prompt_tokens"], s["completion_tokens"]) for s in run["steps"]] == [("COMPLETED", 3, 2)]
    assert list(Path(options["journal_dir"]).iterdir()) == []


def test_the_next_run_delivers_without_being_told(options, details):
    with cut_off(options) as client, client.run("ada") as run:
        run.model_call(lambda: USED, MODEL)
    with Pikarc(**options) as client:
        with client.run("ada"):
            pass
        assert client.journal_length == 0
    assert details()[0]["steps"][0]["prompt_tokens"] == 3


def test_a_delivery_that_is_cut_short_is_made_again_and_booked_once(options, account, details):
    with cut_off(options) as client, client.run("ada") as run:
        run.model_call(lambda: USED, MODEL)
        run.model_call(lambda: USED, MODEL)
    (path,) = Path(options["journal_dir"]).iterdir()
    kept = path.read_bytes()
    for _ in range(2):  # as if the process had been killed between delivery and removal
        with Pikarc(**options) as client:
            assert client.flush() == 2
        path.write_bytes(kept)
    assert account.usage()["today"]["total_tokens"] == 10


def test_a_run_without_its_server_is_told_of_later(options, details):
    with cut_off(options, "POST") as client, pytest.raises(Unavailable):
        client.run("ada").__enter__()
    with cut_off(options, "POST", "PATCH", on_unavailable="open") as client:
        with client.run("ada") as run:
            assert run.run_id == "" and run.model_call(lambda: USED, MODEL) == USED
        assert client.journal_length == 2
    (path,) = Path(options["journal_dir"]).iterdir()
    assert options["api_key"].rsplit("_", 1)[1] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    with Pikarc(**options) as client:
        assert client.flush() == 2
    (run,) = details()
    assert run["status"] == "COMPLETED"
    assert [(s["prompt_tokens"], s["output_data"]) for s in run["steps"]] == [(3, {"unguarded": True})]


def test_a_forked_process_has_a_file_of_its_own_and_leaves_the_parents_alone(options, details):
    with cut_off(options) as client:
        with client.run("ada") as run:
            run.model_call(lambda: USED, MODEL)
        end, word = os.pipe()
        alive, parent = os.pipe()
        if (child := os.fork()) == 0:
            code = 1
            os.close(parent)
            try:
                with client.run("child") as run:
                    run.model_call(lambda: USED, MODEL)
                code = 0
                os.write(word, b"!")
                os.read(alive, 1)  # it ends with its parent at the latest
            finally:
                os._exit(code)
        os.close(word)
        assert os.read(end, 1) == b"!"
        os.close(end)
        files = list(Path(options["journal_dir"]).iterdir())
        assert {int(path.name.split("-")[0]) for path in files} == {os.getpid(), child}
        client.close()  # the child lives, and must not hold what is the parent's
        with Pikarc(**options) as other:
            assert other.flush() == 1
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert other.flush() == 1
        os.close(parent)
        os.close(alive)
    assert {r["user_id"]: r["steps"][0]["prompt_tokens"] for r in details()} == {"ada": 3, "child": 3}


def journal(tmp_path, owner="owner"):
    return Journal(tmp_path, owner)


def test_it_is_bounded_and_what_is_lost_is_in_the_log(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pikarc._journal, "MAX_BYTES", 1000)
    first, second = journal(tmp_path), journal(tmp_path)
    assert all(j.append({"kind": "request", "n": "x" * 100}) for j in (first, second))
    assert not all(first.append({"n": "x" * 100}) for _ in range(10))
    assert not second.append({"n": "x" * 600})  # the bound is of all files together
    assert "they are lost" in caplog.text
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


def test_a_line_that_a_crash_has_cut_short_costs_no_other(tmp_path):
    j = journal(tmp_path)
    j.append({"n": 1})
    j.close()
    (path,) = tmp_path.iterdir()
    with path.open("ab") as file:
        file.write(b'{"owner": "owner", "n":')
    assert [[entry["n"] for entry in entries] for _, entries in j.claim()] == [[1]]


def test_a_disk_that_is_full_spoils_nothing(tmp_path, monkeypatch, caplog):
    j = journal(tmp_path)
    j.append({"n": 1})
    write = os.write

    def half(descriptor, data):
        monkeypatch.setattr(os, "write", full)
        return write(descriptor, bytes(data)[:20])

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    assert not j.append({"n": 2})
    monkeypatch.setattr(os, "write", write)
    assert j.append({"n": 3})
    assert [[entry["n"] for entry in entries] for _, entries in j.claim()] == [[1, 3]]


def test_a_file_that_another_process_claims_while_it_is_made_is_not_used(tmp_path, monkeypatch):
    j = journal(tmp_path)
    other = journal(tmp_path)
    lock = pikarc._journal._lock_file
    claimed = []

    def claim_first(descriptor):
        if not claimed:
            claimed.append(True)
            list(other.claim())  # finds it empty, and removes it
        return lock(descriptor)

    monkeypatch.setattr(pikarc._journal, "_lock_file", claim_first)
    assert j.append({"n": 1})
    assert len(other) == 1


def test_a_damaged_report_stops_neither_the_agent_nor_the_others(options, caplog):
    directory = Path(options["journal_dir"])
    with AsyncPikarcOwner(options) as owner:
        directory.mkdir()
        lines = [{"owner": owner}, {"owner": owner, "kind": "request", "method": "GET"}, {"owner": owner, "kind": "step", "run_id": 7}]
        (directory / f"1-x-{owner}.py.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")

        async def agent() -> int:
            async with AsyncPikarc(**options) as client:
                async with client.run("ada"):
                    pass
                return client.journal_length

        assert asyncio.run(agent()) == 0
    assert "cannot be delivered and is dropped" in caplog.text


class AsyncPikarcOwner:
    """The name under which a client's reports are kept."""

    def __init__(self, options):
        self.client = Pikarc(**options)

    def __enter__(self):
        return self.client._core.settings.owner()

    def __exit__(self, *_):
        self.client.close()


def test_it_does_not_look_at_the_disk_at_every_call(tmp_path, monkeypatch):
    j = journal(tmp_path)
    assert not j.may_hold()
    journal(tmp_path).append({"n": 1})
    monkeypatch.setattr(Journal, "_files", lambda self: pytest.fail("it looks again"))
    assert not j.may_hold()
    monkeypatch.undo()
    monkeypatch.setattr(pikarc._journal, "_LOOK_EVERY", 0.0)
    assert j.may_hold()  # what another process has left since
