"""Keeps reports that could not be delivered on disk, until they can.

One file a process, which the process holds locked as long as it lives. A report is appended and synced before the call
that it is of returns. The next call of any client with the same server and key delivers what is left, also in the files of
processes that are gone. A report may be delivered twice, which the server knows by its key. The API key is never written.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pikarc._json import encode, members

try:
    import fcntl
except ImportError:  # Windows: two processes may deliver the same reports, which the server knows by their keys
    fcntl = None

logger = logging.getLogger("pikarc")

MAX_BYTES = 64 << 20  # of all files of a server and key
_SUFFIX = ".py.jsonl"  # the clients of other languages have files of their own form
_LOOK_EVERY = 30.0  # seconds between looks for what other processes have left

# The journals of this process, one for each directory and owner.
_journals: weakref.WeakValueDictionary[tuple[Path, str], Journal] = weakref.WeakValueDictionary()


def shared(directory: Path, owner: str) -> Journal:
    """Returns the journal that all clients of this process with the same server and key have."""
    made = Journal(directory, owner)
    return _journals.setdefault((directory, owner), made)


class Journal:
    """The reports of one process, and those that others have left in the same directory. Thread-safe."""

    def __init__(self, directory: Path, owner: str) -> None:
        self._directory, self.owner = directory, owner
        self._lock = threading.Lock()
        self._path: Path | None = None
        self._descriptor = -1
        self._left = False  # whether this process has kept something that is not delivered
        self._looked: float | None = None  # when the directory was last looked at

    def append(self, *entries: dict[str, Any]) -> bool:
        """Keeps reports, and says whether that worked. What is lost is in the log, which is all that can be done then."""
        try:
            lines = b"".join(encode({"id": str(uuid.uuid4()), "owner": self.owner, **e}) + b"\n" for e in entries)
            with self._lock:
                descriptor = self._own_file()
                if sum(_size(path) for path in self._files()) + len(lines) > MAX_BYTES:
                    raise OSError(f"the journal in {self._directory} is full ({MAX_BYTES} bytes)")
                _append(descriptor, lines)
                self._left = True
            return True
        except (OSError, ValueError):
            logger.exception("%d reports could be neither delivered nor kept: they are lost", len(entries))
            return False

    def __len__(self) -> int:
        """The number of reports that wait, of this server and key, by whatever process."""
        return sum(len(self._read(path)) for path in self._files())

    def may_hold(self) -> bool:
        """Reports whether there may be something to deliver, mostly without looking at the disk."""
        if self._left:
            return True
        now = time.monotonic()
        if self._looked is None or now - self._looked >= _LOOK_EVERY:
            self._looked = now
            return any(_size(path) > 0 for path in self._files())
        return False

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
                if _lock_file(descriptor):
                    if entries := self._read(path):
                        yield path, entries
                    else:  # a crash has left nothing that can be read
                        self.remove(path)
            finally:
                os.close(descriptor)

    def remove(self, path: Path) -> None:
        """Removes a file whose reports are delivered, or else empties it: Windows removes none that is open."""
        try:
            path.unlink(missing_ok=True)
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(path, 0)

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
            except (ValueError, RecursionError):
                continue
            if members(entry).get("owner") == self.owner:
                entries.append(members(entry))
        return entries

    def _files(self) -> list[Path]:
        try:
            return sorted(self._directory.glob(f"*-{self.owner}{_SUFFIX}"))
        except OSError:
            return []

    def _own_file(self) -> int:
        """Returns this process's file, locked. One that another process has claimed while it was made is not it."""
        if self._descriptor < 0:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        while self._descriptor < 0:
            path = self._directory / f"{os.getpid()}-{uuid.uuid4().hex[:12]}-{self.owner}{_SUFFIX}"
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            if _lock_file(descriptor) and os.fstat(descriptor).st_nlink > 0:
                self._path, self._descriptor = path, descriptor
            else:
                os.close(descriptor)
        return self._descriptor

    def __del__(self) -> None:
        self._let_go()

    def close(self) -> None:
        """Leaves this process's file to other clients."""
        with self._lock:
            self._let_go()

    def after_fork(self) -> None:
        """Leaves the parent's file to the parent: a lock that is shared would outlive it. The child has one of its own."""
        self._lock = threading.Lock()  # another thread of the parent may have held it
        self._let_go()
        self._left = False

    def _let_go(self) -> None:
        """Leaves this process's file to whoever delivers it, which is this process too."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _after_fork() -> None:
    for journal in list(_journals.values()):
        journal.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _append(descriptor: int, lines: bytes) -> None:
    """Appends all or nothing: half a line would spoil the next one too."""
    before = os.fstat(descriptor).st_size
    try:
        view = memoryview(lines)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, before)
        raise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _lock_file(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
