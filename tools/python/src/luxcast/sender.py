"""The thread that talks to the daemon: sends the outbox, reconnects after failures, and reports them to the log."""

from __future__ import annotations

import random
import selectors
import threading
import time
from typing import Optional

from luxcast.link import Acknowledged, Link, Refused, Welcome
from luxcast.outbox import Outbox
from luxcast.report import Report
from luxcast.settings import misspelt

BATCH_BYTES_MAX = 1 << 18
"""What one turn of the daemon reads from one publisher."""

RETRY_SECONDS_MIN = 0.1

LOOK_SECONDS = 1.0
"""How often it wakes from waiting while there may be something to report."""


class Sender:
    """One thread, and at most one connection at a time."""

    def __init__(
        self,
        outbox: Outbox,
        report: Report,
        paths: tuple[str, ...],
        name: str,
        linger_seconds: float,
        retry_seconds_max: float,
    ) -> None:
        """Of several paths, the first one at which a daemon answers is kept."""
        self.has_ended = False
        """Whether the thread has ended, by itself or by a failure."""
        self._outbox = outbox
        self._report = report
        self._paths = paths
        self._name = name
        self._linger_seconds = linger_seconds
        self._retry_seconds_max = retry_seconds_max
        self._link: Optional[Link] = None
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

    def abandon(self) -> None:
        """In a child after a fork, where the thread does not exist: closes this process' copy of its socket."""
        if self._link is not None:
            self._link.close()

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
            self._let_go()
            self.has_ended = True

    def _look_around(self) -> None:
        try:
            for variable in misspelt():
                self._report.is_misspelt(variable)
        except Exception as error:
            self._outbox.count_sender_fault(error, is_failing=False)

    def _take_turn(self) -> None:
        """One connection from start to end, and the wait for the next one."""
        try:
            self._link = self._connect()
            self._converse(self._link)
        except OSError as error:
            self._report.is_gone(" or ".join(self._paths), error)
        finally:
            self._let_go()
        if not self._is_done():
            self._wait_to_retry()

    def _let_go(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            if not link.is_welcome:
                # Next time another path comes first.
                self._paths = self._paths[1:] + self._paths[:1]
            link.close()

    def _connect(self) -> Link:
        failures = []
        for path in self._paths:
            try:
                return Link(path, self._name)
            except OSError as error:
                failures.append((path, error))
        if len(failures) == 1:
            raise failures[0][1]
        raise ConnectionError("; ".join(f"{path}: {error}" for path, error in failures))

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

    def _wait_to_retry(self) -> None:
        until = time.monotonic() + self._retry_seconds()
        was_closing = self._outbox.is_closing
        with _selector() as selector:
            selector.register(self._outbox.bell, selectors.EVENT_READ)
            while (rest := until - time.monotonic()) > 0:
                if self._outbox.is_stopped or self._outbox.is_closing != was_closing:
                    break
                selector.select(min(rest, LOOK_SECONDS))
                self._outbox.bell.silence()
                self._look()

    def _converse(self, link: Link) -> None:
        """Runs until all is done or the connection fails."""
        with _selector() as selector:
            selector.register(self._outbox.bell, selectors.EVENT_READ)
            selector.register(link, selectors.EVENT_READ)
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
                selector.modify(link, selectors.EVENT_READ | (selectors.EVENT_WRITE if link.has_unsent else 0))
                ready = selector.select(LOOK_SECONDS if self._report.has_news else None)
                self._outbox.wake_up()
                self._outbox.bell.silence()
                if any(key.fileobj is link for key, _ in ready):
                    self._handle_answers(link)
                self._look()

    def _linger(self, sent_at: float) -> None:
        """Waits a moment after a small batch, so that a busy engine is not disturbed for each event."""
        rest = sent_at + self._linger_seconds - time.monotonic()
        if rest > 0 and not self._outbox.is_closing and not self._outbox.waits_for_more_than(BATCH_BYTES_MAX):
            time.sleep(rest)

    def _handle_answers(self, link: Link) -> None:
        for answer in link.receive():
            if isinstance(answer, Welcome):
                if link.is_welcome:
                    raise ConnectionAbortedError("the daemon said welcome twice")
                self._retries = 0
                self._paths = (link.path,)
                self._outbox.count_connection()
                self._report.is_there(link.path)
                link.begin(*self._outbox.resume(answer.accepted))
            elif isinstance(answer, Acknowledged):
                self._outbox.acknowledge(answer.line, answer.refused)
            elif isinstance(answer, Refused):
                self._outbox.refuse(answer.line)
                self._report.is_refused(answer.reason)


def _selector() -> selectors.BaseSelector:
    """The selector of this moment: gevent and eventlet put their own into the module. Otherwise the one that needs
    no descriptor."""
    kind = selectors.DefaultSelector
    if kind is getattr(selectors, "EpollSelector", None):
        return selectors.PollSelector()
    return kind()
