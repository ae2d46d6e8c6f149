"""Reads the environment: where the daemon is, and whether to send anything."""

from __future__ import annotations

import difflib
import os

_OFF = ("", "0", "false", "no", "off")

_OURS = ("INGEST", "URL", "TOKEN", "DISABLED")
"""The variables that this package reads. The daemon's variables begin with `LUXCAST_` too."""

SYSTEM_PATH = "/run/luxcast/ingest.sock"
"""Where the packaged service listens."""


def is_disabled() -> bool:
    """Whether `LUXCAST_DISABLED` is set, to anything but an empty text, `0`, `false`, `no` or `off`."""
    return os.environ.get("LUXCAST_DISABLED", "").strip().lower() not in _OFF


def default_paths() -> tuple[str, ...]:
    """Where the daemon's socket may be, in this order: only `LUXCAST_INGEST` if it is set, else in
    `XDG_RUNTIME_DIR`, if that is an absolute path, and in /run."""
    given = os.environ.get("LUXCAST_INGEST")
    if given:
        return (given,)
    directory = os.environ.get("XDG_RUNTIME_DIR")
    if directory and os.path.isabs(directory):
        return (os.path.join(directory, "luxcast.sock"), SYSTEM_PATH)
    return (SYSTEM_PATH,)


def default_url() -> str:
    """`LUXCAST_URL`, unless `LUXCAST_INGEST` is set, which says the same more exactly; empty: there is none."""
    return "" if os.environ.get("LUXCAST_INGEST") else os.environ.get("LUXCAST_URL", "")


def default_token() -> str:
    return os.environ.get("LUXCAST_TOKEN", "")


def default_path() -> str:
    """The first of `default_paths`."""
    return default_paths()[0]


def misspelt() -> list[str]:
    """Variables that look like a mistyped one of ours."""
    names = [name[len("LUXCAST_") :] for name in os.environ if name.startswith("LUXCAST_")]
    return [f"LUXCAST_{name}" for name in sorted(names) if name not in _OURS and _resembles(name)]


def _resembles(name: str) -> bool:
    return bool(difflib.get_close_matches(name, _OURS, n=1, cutoff=0.8))
