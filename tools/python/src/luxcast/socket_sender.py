"""Publishes over the daemon's Unix socket."""

from __future__ import annotations

import selectors
import time
from typing import Any, Optional

from luxcast.link import Acknowledged, Link, Refused, Welcome
from luxcast.sender import BATCH_BYTES_MAX, LOOK_SECONDS, Sender, new_selector


class SocketSender(Sender):
    """Of several paths, the first one at which a daemon answers is kept."""

    def __init__(self, paths: tuple[str, ...], *common: Any) -> None:
        super().__init__(*common)
        self._paths = paths
        self._link: Optional[Link] = None

    def abandon(self) -> None:
        if self._link is not None:
            self._link.close()

    def _talk(self) -> float:
        try:
            self._link = self._connect()
            self._converse(self._link)
        except OSError as error:
            self._report.is_gone(" or ".join(self._paths), error)
        finally:
            self._let_go()
        return self._retry_seconds()

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

    def _converse(self, link: Link) -> None:
        """Runs until all is done or the connection fails."""
        with new_selector() as selector:
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
