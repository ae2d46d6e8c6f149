"""The thread that talks to the daemon: sends what the outbox has, comes back after failures, and says so in the log."""

from __future__ import annotations

import random
import select
import threading
import time
from typing import Optional

from luxcast.link import Acknowledged, Link, Refused, Welcome
from luxcast.outbox import Outbox
from luxcast.report import Report

BATCH_BYTES_MAX = 1 << 18
"""What one turn of the daemon reads from one publisher."""

RETRY_SECONDS_MIN = 0.1

LOOK_SECONDS = 1.0
"""How often it looks up from waiting while there may be something to report."""


class Sender:
    """One thread, and at most one connection at a time."""

    def __init__(
        self, outbox: Outbox, report: Report, path: str, name: str, linger_seconds: float, retry_seconds_max: float
    ) -> None:
        self._outbox = outbox
        self._report = report
        self._path = path
        self._name = name
        self._linger_seconds = linger_seconds
        self._retry_seconds_max = retry_seconds_max
        self._link: Optional[Link] = None
        self._retries = 0
        self._thread = threading.Thread(target=self._run, name="luxcast", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, seconds: float) -> bool:
        """Whether the thread has ended within that time."""
        self._thread.join(max(0.0, seconds))
        return not self._thread.is_alive()

    def abandon(self) -> None:
        """In a child after a fork, where the thread is gone: closes this process' copy of its socket."""
        if self._link is not None:
            self._link.close()

    def _run(self) -> None:
        while not self._is_done():
            try:
                self._link = Link(self._path, self._name)
                self._converse(self._link)
            except OSError as error:
                self._report.is_gone(self._path, error)
            except Exception as error:
                self._outbox.count_fault()
                self._report.is_gone(self._path, error)
            finally:
                if self._link is not None:
                    self._link.close()
                    self._link = None
            if not self._is_done():
                self._wait_to_retry()
        self._report.look(self._outbox.stats(), is_last=True)

    def _is_done(self) -> bool:
        return self._outbox.is_stopped or (self._outbox.is_closing and self._outbox.is_empty)

    def _wait_to_retry(self) -> None:
        """Twice as long each time, somewhere between half of that and all of it, so that publishers spread out."""
        limit = min(self._retry_seconds_max, RETRY_SECONDS_MIN * 2.0 ** min(self._retries, 16))
        if self._outbox.is_closing:
            limit = min(limit, RETRY_SECONDS_MIN)
        self._retries += 1
        until = time.monotonic() + limit * random.uniform(0.5, 1.0)
        poll = select.poll()
        poll.register(self._outbox.bell.fileno(), select.POLLIN)
        was_closing = self._outbox.is_closing
        while (rest := until - time.monotonic()) > 0:
            if self._outbox.is_stopped or self._outbox.is_closing != was_closing:
                break
            poll.poll(min(rest, LOOK_SECONDS) * 1000)
            self._outbox.bell.silence()
            self._report.look(self._outbox.stats())

    def _converse(self, link: Link) -> None:
        """Until all is done or the connection fails."""
        poll = select.poll()
        poll.register(self._outbox.bell.fileno(), select.POLLIN)
        sent_at = -self._linger_seconds
        while not self._is_done():
            if link.is_welcome and not link.has_unsent and self._outbox.can_take:
                self._linger(sent_at)
                link.queue(self._outbox.take(BATCH_BYTES_MAX))
                sent_at = time.monotonic()
            if link.has_unsent:
                link.send()
            if not self._outbox.fall_asleep() and link.is_welcome and not link.has_unsent and self._outbox.can_take:
                continue
            poll.register(link.fileno(), select.POLLIN | (select.POLLOUT if link.has_unsent else 0))
            ready = dict(poll.poll(LOOK_SECONDS * 1000 if self._report.has_news else None))
            self._outbox.wake_up()
            self._outbox.bell.silence()
            if link.fileno() in ready:
                self._handle_answers(link)
            self._report.look(self._outbox.stats())

    def _linger(self, sent_at: float) -> None:
        """Lets lines gather for a moment after a small batch, so that a busy engine is not disturbed for each event."""
        rest = sent_at + self._linger_seconds - time.monotonic()
        if rest > 0 and not self._outbox.is_closing and not self._outbox.waits_for_more_than(BATCH_BYTES_MAX):
            time.sleep(rest)

    def _handle_answers(self, link: Link) -> None:
        for answer in link.receive():
            if isinstance(answer, Welcome):
                if link.is_welcome:
                    raise ConnectionAbortedError("the daemon said welcome twice")
                self._retries = 0
                self._outbox.count_connection()
                self._report.is_there(self._path)
                link.begin(*self._outbox.resume(answer.accepted))
            elif isinstance(answer, Acknowledged):
                self._outbox.acknowledge(answer.line)
            elif isinstance(answer, Refused):
                self._outbox.refuse(answer.line)
                self._report.is_refused(answer.reason)
