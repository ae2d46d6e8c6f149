"""The front door: `Publisher`, and what holds for all publishers of a process: its forks and its end."""

from __future__ import annotations

import atexit
import logging
import os
import re
import threading
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Optional

from luxcast.encode import encode
from luxcast.outbox import Outbox, rank
from luxcast.report import Report
from luxcast.sender import Sender
from luxcast.settings import default_path, is_disabled
from luxcast.stats import Stats

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,90}")
"""What the daemon takes as a name, with room for what makes it the only one."""

STOP_SECONDS_MAX = 1.0
"""For the sender's thread to notice that it has to stop. It may be within a log handler of any slowness."""


class Publisher:
    """Sends events to the daemon. `publish` never waits, never raises, and keeps a bounded number of events.

    May be used by any number of threads; the order of each thread is kept. A forked child has a buffer, a connection
    and counters of its own, which begin with its first event.
    """

    def __init__(
        self,
        path: Optional[str] = None,
        *,
        name: str = "python",
        events_max: int = 100_000,
        bytes_max: int = 16 << 20,
        line_bytes_max: int = 1_000_000,
        linger_seconds: float = 0.005,
        retry_seconds_max: float = 5.0,
        exit_seconds: float = 2.0,
        logger: Optional[logging.Logger] = None,
    ) -> None:
        """Raises ValueError if a setting makes no sense. The README has a table of them."""
        if _NAME.fullmatch(name) is None:
            raise ValueError("name must be 1 to 90 characters out of A-Z a-z 0-9 _ . : -")
        if events_max < 1 or line_bytes_max < 100 or bytes_max < line_bytes_max:
            raise ValueError("events_max must be 1 or more, line_bytes_max 100 or more, and bytes_max not below it")
        if min(linger_seconds, exit_seconds) < 0 or retry_seconds_max <= 0:
            raise ValueError("linger_seconds and exit_seconds must not be negative, retry_seconds_max must be positive")
        self.path = path or default_path()
        self.exit_seconds = exit_seconds
        self._name = name
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._line_bytes_max = line_bytes_max
        self._linger_seconds = linger_seconds
        self._retry_seconds_max = retry_seconds_max
        self._logger = logger
        self._is_disabled = is_disabled()
        self._starting = threading.Lock()
        self._sender: Optional[Sender] = None
        if not self._is_disabled:
            self._outbox = Outbox(events_max, bytes_max)
            _open.add(self)

    def publish(self, event: Mapping[str, Any]) -> bool:
        """Takes an event as it is at this moment, to be sent soon; False if it was dropped, which is counted."""
        if self._is_disabled:
            return False
        outbox = self._outbox
        try:
            kind = event.get("type") if isinstance(event, Mapping) else None
            if not isinstance(kind, str):
                outbox.count_invalid()
                return False
            line, is_cut = encode(event if isinstance(event, dict) else dict(event), self._line_bytes_max)
            if line is None:
                outbox.count_too_large()
                return False
            is_kept = outbox.put(line, rank(kind), is_cut)
            if self._sender is None:
                self._start()
            return is_kept
        except Exception:
            outbox.count_fault()
            return False

    def count_fault(self) -> None:
        """Counts something that failed on the way here and was kept from the engine."""
        if not self._is_disabled:
            self._outbox.count_fault()

    def stats(self) -> Stats:
        """The counters of this process; all 0 where it is disabled."""
        return Stats() if self._is_disabled else self._outbox.stats()

    @property
    def is_disabled(self) -> bool:
        return self._is_disabled

    def flush(self, deadline: float = 5.0) -> bool:
        """Waits until nothing is left to be acknowledged, for so many seconds; tells whether that is so."""
        return self._is_disabled or self._outbox.wait_until_empty(deadline)

    def close(self, deadline: float = 5.0) -> bool:
        """Takes no more events, sends what waits, and gives up after so many seconds.

        Tells whether all was acknowledged. What was not is counted as `dropped_closed`.
        """
        if self._is_disabled:
            return True
        _open.discard(self)
        self._outbox.close()
        sender = self._sender
        has_ended = sender is None or sender.join(deadline)
        rest = self._outbox.stop()
        if has_ended or (sender is not None and sender.join(STOP_SECONDS_MAX)):
            self._outbox.close_bell()
        return rest == 0

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def _start(self) -> None:
        # Whoever is just starting it, be it this thread before a signal handler, needs no help.
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._sender is not None:
                return
            sender = Sender(
                self._outbox,
                Report(self._logger),
                self.path,
                # No two publishers share a name, or the daemon would take lines of one for those of the other.
                f"{self._name}-{uuid.uuid4().hex}",
                self._linger_seconds,
                self._retry_seconds_max,
            )
            sender.start()
            self._sender = sender
        finally:
            self._starting.release()

    def _begin_anew(self) -> None:
        """In a forked child: nothing of the parent's is sent from here, and its connection is left to it."""
        parents_sender, parents_outbox = self._sender, self._outbox
        self._starting = threading.Lock()
        self._sender = None
        parents_outbox.bell.close()
        if parents_sender is not None:
            parents_sender.abandon()
        try:
            self._outbox = Outbox(self._events_max, self._bytes_max)
        except OSError:
            # Without a descriptor left, silence is all that remains: the parent's buffer must not be used here.
            self._is_disabled = True


_open: set[Publisher] = set()
"""Publishers that are neither disabled nor closed."""


def _after_fork_in_child() -> None:
    for publisher in list(_open):
        publisher._begin_anew()


def _at_exit() -> None:
    for publisher in list(_open):
        publisher.close(publisher.exit_seconds)


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
