"""A client's settings, checked when they are given."""

from __future__ import annotations

import os
import random
import string
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

DEFAULT_BASE_URL = "http://localhost:8000"

# Asked whether a call may go on that the server could not be asked about; gets the exception.
UnavailableRule = Literal["closed", "open"] | Callable[[Exception], bool]
# "wait" for the verdict, "raise" ReviewPending, or be asked with the review's id: True waits, False raises.
ReviewRule = Literal["wait", "raise"] | Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client was told. Times are in seconds."""

    api_key: str = field(repr=False)
    base_url: str
    timeout: float = 10.0
    connect_timeout: float = 2.0
    max_retries: int = 3
    on_unavailable: UnavailableRule = "closed"
    on_review: ReviewRule = "wait"
    review_timeout: float = 300.0
    grace: float = 2.0  # for what is left to report when a call is cancelled
    heartbeat: float = 30.0  # between signs of life of a run whose call takes long
    journal_dir: Path = field(default_factory=lambda: default_journal_dir())

    def owner(self) -> str:
        """Names whose reports a journal's file holds: the server and the key, neither of which can be read from it."""
        import hashlib

        return hashlib.sha256(f"{self.base_url}\n{self.api_key}".encode()).hexdigest()[:16]

    def delay(self, attempt: int) -> float:
        """Returns how long to wait before an attempt, the second being 1: exponential, with full jitter."""
        return random.uniform(0, min(5.0, 0.1 * 2.0**attempt))


def make(api_key: str | None, base_url: str | None, options: dict[str, Any]) -> Settings:
    """Reads the settings from arguments and environment.

    Raises:
        ValueError: names what is wrong, never the key itself.
    """
    key = api_key or os.environ.get("PIKARC_API_KEY")
    if not key:
        raise ValueError("api_key must be provided or set via PIKARC_API_KEY env var")
    url = base_url or os.environ.get("PIKARC_BASE_URL") or DEFAULT_BASE_URL
    if journal := options.pop("journal_dir", None):
        options["journal_dir"] = Path(journal)
    return check(Settings(api_key=key, base_url=url.rstrip("/"), **{k: v for k, v in options.items() if v is not None}))


def changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    """Returns a copy with some of them changed, or raises a ValueError."""
    if "journal_dir" in changes:
        changes = {**changes, "journal_dir": Path(changes["journal_dir"])}
    if "base_url" in changes:
        changes = {**changes, "base_url": str(changes["base_url"]).rstrip("/")}
    return check(replace(settings, **changes))


def check(s: Settings) -> Settings:
    """Returns the settings, or raises a ValueError that names what is wrong."""
    if not set(s.api_key) <= set(string.ascii_letters + string.digits + string.punctuation):
        raise ValueError("api_key holds a space, a line break or another character that no key has: was it copied whole?")
    parts = urlsplit(s.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not _has_sane_port(parts):
        raise ValueError(f"base_url must begin with http:// or https://, as in {DEFAULT_BASE_URL}")
    if parts.path.rstrip("/").endswith("/v1") or parts.query or parts.fragment:
        raise ValueError("base_url is the server's address alone: leave out /v1, ? and #")
    if parts.username or parts.password:
        raise ValueError("base_url must not hold a password")
    for name in ("timeout", "connect_timeout", "heartbeat"):
        if not 0 < getattr(s, name) < 1e9:
            raise ValueError(f"{name} must be above 0, in seconds")
    for name in ("max_retries", "review_timeout", "grace"):
        if not 0 <= getattr(s, name) < 1e9:
            raise ValueError(f"{name} must be 0 or more")
    if not callable(s.on_unavailable) and s.on_unavailable not in ("closed", "open"):
        raise ValueError('on_unavailable must be "closed", "open" or a function')
    if not callable(s.on_review) and s.on_review not in ("wait", "raise"):
        raise ValueError('on_review must be "wait", "raise" or a function')
    return s


def _has_sane_port(parts: SplitResult) -> bool:
    try:
        return parts.port != 0
    except ValueError:
        return False


def default_journal_dir() -> Path:
    """Returns where reports are kept that could not be delivered: PIKARC_JOURNAL_DIR, else the user's state directory."""
    if own := os.environ.get("PIKARC_JOURNAL_DIR"):
        return Path(own)
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state) / "pikarc"
    if local := os.environ.get("LOCALAPPDATA"):
        return Path(local) / "pikarc"
    return Path.home() / ".local" / "state" / "pikarc"
