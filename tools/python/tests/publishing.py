"""What the tests of both senders publish, and what must be true of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from luxcast import Publisher, Stats


def an_event(n: int, kind: str = "execution_event", **members: object) -> dict[str, Any]:
    return {"type": kind, "job_id": "j", "n": n, **members}


@contextmanager
def publishing(place: str, **settings: Any) -> Iterator[Publisher]:
    """A publisher to this socket or URL, which waits for nothing at its end."""
    publisher = Publisher(place, retry_seconds_max=0.2, **settings)
    try:
        yield publisher
    finally:
        publisher.close(0)


def assert_all_counted(stats: Stats, has_sender_failed: bool = False) -> None:
    assert stats.published == stats.delivered + stats.refused + stats.dropped + stats.waiting, stats
    assert (stats.faults, stats.sender_faults > 0) == (0, has_sender_failed), stats
