"""The thread that talks to the daemon: what it does is the same wherever the daemon is. Subclasses know how to talk."""

from __future__ import annotations

import random
import selectors
import threading
import time
from abc import ABC, abstractmethod

from luxcast.outbox import Outbox
from luxcast.report import Report
from luxcast.settings import misspelt

BATCH_BYTES_MAX = 1 << 18
"""What one turn of the daemon reads from one publisher."""

RETRY_SECONDS_MIN = 0.1

LOOK_SECONDS = 1.0
"""How often it wakes from waiting while there may be something to report."""


class Sender(ABC):
    """One thread, and at most one connection at a time."""

    def __init__(
        self,
        outbox: Outbox,
        report: Report,
        name: str,
        linger_seconds: float,
        retry_seconds_max: float,
    ) -> None:
        """`name` is the one under which the daemon remembers lines."""
        self.has_ended = False
        """Whether the thread has ended, by itself or by a failure."""
        self._outbox = outbox
        self._report = report
        self._name = name
        self._linger_seconds = linger_seconds
        self._retry_seconds_max = retry_seconds_max
        self._retries = 0
        self._thread = threading.Thread(target=self._run, name="luxcast", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Whether the thread has ended within that time. Called in that thread (by a log handler): False."""
        if threading.current_thread() is self._thread:
            return False
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    @abstractmethod
    def abandon(self) -> None:
        """In a child after a fork, where the thread does not exist: closes this process' copy of its socket."""

    @abstractmethod
    def _talk(self) -> float:
        """One connection from start to end, whatever ends it; nothing of it is left open. Returns the seconds until
        the next one."""

    def _run(self) -> None:
        """Whatever happens in a turn, another one follows. What no turn can catch (SystemExit, for example) ends
        the thread, and the next event starts another."""
        try:
            self._look_around()
            while not self._is_done():
                try:
                    self._take_turn()
                except Exception as error:
                    self._outbox.count_sender_fault(error)
                    time.sleep(min(self._retry_seconds(), LOOK_SECONDS))
            self._look(is_last=True)
        except BaseException as error:
            self._outbox.count_sender_fault(error)
            raise
        finally:
            self.has_ended = True

    def _look_around(self) -> None:
        try:
            for variable in misspelt():
                self._report.is_misspelt(variable)
        except Exception as error:
            self._outbox.count_sender_fault(error, is_failing=False)

    def _take_turn(self) -> None:
        pause_seconds = self._talk()
        if pause_seconds > 0 and not self._is_done():
            self._wait_to_retry(pause_seconds)

    def _is_done(self) -> bool:
        return self._outbox.is_stopped or (self._outbox.is_closing and self._outbox.is_empty)

    def _look(self, is_last: bool = False) -> None:
        self._report.look(self._outbox.stats(), self._outbox.problems(), is_last)

    def _retry_seconds(self) -> float:
        """Twice as long each time, at random between half of that and all of it, so that publishers spread out."""
        limit = min(self._retry_seconds_max, RETRY_SECONDS_MIN * 2.0 ** min(self._retries, 16))
        if self._outbox.is_closing:
            limit = min(limit, RETRY_SECONDS_MIN)
        self._retries += 1
        return limit * random.uniform(0.5, 1.0)

    def _wait_to_retry(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        was_closing = self._outbox.is_closing
        with new_selector() as selector:
            selector.register(self._outbox.bell, selectors.EVENT_READ)
            while (rest := until - time.monotonic()) > 0:
                if self._outbox.is_stopped or (self._outbox.is_closing != was_closing and self._may_hurry):
                    break
                selector.select(min(rest, LOOK_SECONDS))
                self._outbox.bell.silence()
                self._look()

    @property
    def _may_hurry(self) -> bool:
        """Whether a publisher that closes may try at once, whatever pause there is."""
        return True

    def _linger(self, sent_at: float) -> None:
        """Waits a moment after a small batch, so that a busy engine is not disturbed for each event."""
        rest = sent_at + self._linger_seconds - time.monotonic()
        if rest > 0 and not self._outbox.is_closing and not self._outbox.waits_for_more_than(BATCH_BYTES_MAX):
            time.sleep(rest)


def new_selector() -> selectors.BaseSelector:
    """The selector of this moment: gevent and eventlet put their own into the module. Otherwise the one that needs
    no descriptor."""
    kind = selectors.DefaultSelector
    if kind is getattr(selectors, "EpollSelector", None):
        return selectors.PollSelector()
    return kind()
