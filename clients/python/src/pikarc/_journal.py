"""Keeps reports that could not be delivered on disk, until they can.

One file a process, which the process holds locked as long as it lives. A report is appended and synced before the call
that it is of returns. The next call of any client with the same server and key delivers what is left, also in the files of
processes that are gone. A report may be delivered twice, which the server knows by its key. The API key is never written.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pikarc._json import members

try:
    import fcntl
except ImportError:  # Windows: files of other processes are left to them
    fcntl = None

logger = logging.getLogger("pikarc")

MAX_BYTES = 64 << 20
_SUFFIX = ".jsonl"


class Journal:
    """The reports of one process, and those that others have left in the same directory. Thread-safe."""

    def __init__(self, directory: Path, owner: str) -> None:
        self._directory, self._owner = directory, owner
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._descriptor = -1
        self._pid = 0
        self._left: bool | None = None  # whether there may be something to deliver; None: not looked yet

    def append(self, *entries: dict[str, Any]) -> bool:
        """Keeps reports, and says whether that worked. What is lost is in the log, which is all that can be done then."""
        lines = "".join(
            json.dumps({"id": str(uuid.uuid4()), "owner": self._owner, **e}, separators=(",", ":")) + "\n" for e in entries
        )
        try:
            with self._lock:
                descriptor = self._own_file()
                if os.fstat(descriptor).st_size + len(lines) > MAX_BYTES:
                    raise OSError(f"the journal {self._path} is full ({MAX_BYTES >> 20} MiB)")
                os.write(descriptor, lines.encode("ascii"))
                os.fsync(descriptor)
                self._left = True
            return True
        except OSError:
            logger.exception("%d reports could be neither delivered nor kept: they are lost", len(entries))
            return False

    def __len__(self) -> int:
        """The number of reports that wait, of this server and key, by whatever process."""
        return sum(len(self._read(path)) for path in self._files())

    def may_hold(self) -> bool:
        """Reports whether there may be something to deliver, mostly without looking at the disk."""
        if self._left is None:
            self._left = len(self) > 0
        return self._left

    def claim(self) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
        """Yields the files with reports of this owner, each held for this process until the next is asked for.

        The caller removes a file once its reports are delivered or appended again.
        """
        with self._lock:
            self._let_go()
            self._left = False
        for path in self._files():
            try:
                descriptor = os.open(path, os.O_RDWR)
            except OSError:
                continue
            try:
                if _lock_file(descriptor) and (entries := self._read(path)):
                    yield path, entries
            finally:
                os.close(descriptor)

    def _read(self, path: Path) -> list[dict[str, Any]]:
        """Reads this owner's reports. A line that a crash has cut short is left out."""
        entries: list[dict[str, Any]] = []
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            return entries
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if members(entry).get("owner") == self._owner:
                entries.append(members(entry))
        return entries

    def _files(self) -> list[Path]:
        try:
            return sorted(self._directory.glob(f"*-{self._owner}{_SUFFIX}"))
        except OSError:
            return []

    def _own_file(self) -> int:
        if self._pid != os.getpid():  # a forked process has a file of its own; its parent keeps the other's lock
            self._descriptor = -1
        if self._descriptor < 0:
            self._pid = os.getpid()
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._path = self._directory / f"{self._pid}-{uuid.uuid4().hex[:12]}-{self._owner}{_SUFFIX}"
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            _lock_file(self._descriptor)
        return self._descriptor

    def close(self) -> None:
        """Leaves this process's file to other clients."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        """Leaves this process's file to whoever delivers it, which is this process too."""
        if self._descriptor >= 0 and self._pid == os.getpid():
            os.close(self._descriptor)
        self._descriptor = -1


def _lock_file(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
