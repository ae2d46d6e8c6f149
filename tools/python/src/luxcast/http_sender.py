"""Publishes over HTTP: one request after the other, each with lines whose numbers a repeated request has again."""

from __future__ import annotations

import random
import selectors
import socket
import time
from typing import Any, Optional

from luxcast.endpoint import Endpoint
from luxcast.flight import Batch
from luxcast.poster import Declined, Poster, Receipt
from luxcast.sender import BATCH_BYTES_MAX, LOOK_SECONDS, Sender, new_selector

BATCH_LINES_MAX = 1_000
"""More lines in one request save nothing, and the daemon names 64 refused ones of each."""

IDLE_SECONDS_MAX = 30.0
"""How long a connection without requests is kept: less than proxies do, some of which forget it without a word."""

DECLINED_SECONDS_MIN = 1.0

DECLINED_FACTOR = 12
"""So many times longer than other pauses are those after an answer that stays the same until somebody acts."""

SPREAD = 0.25
"""The share by which a pause that the daemon asks for is made longer, at random, so that publishers spread out."""


class _Stopped(Exception):
    """The publisher has given up what waits."""


class HttpSender(Sender):
    def __init__(self, endpoint: Endpoint, *common: Any) -> None:
        super().__init__(*common)
        self._endpoint = endpoint
        self._poster: Optional[Poster] = None
        self._is_known = False
        """Whether the daemon has answered since it was last away."""
        self._counted = 0
        """How many connections of the poster are counted: those with an answer."""
        self._may_repeat_at_once = False
        """A kept connection may end just when it is used again. That is no failure, once after each answer."""
        self._knows_flight = False
        """Whether it is known which of the lines in flight the daemon has."""
        self._refused = 0
        """Lines that answers have called refused since then."""
        self._batch_bytes_max = BATCH_BYTES_MAX
        """Less if a proxy takes no bodies of that size."""
        self._is_asked_to_wait = False

    def abandon(self) -> None:
        if self._poster is not None:
            self._poster.close()

    @property
    def _may_hurry(self) -> bool:
        return not self._is_asked_to_wait

    def _talk(self) -> float:
        self._poster = poster = Poster(self._endpoint, self._name, self._pause)
        self._counted = 0
        self._is_asked_to_wait = False
        try:
            self._publish(poster)
            return 0.0
        except _Stopped:
            return 0.0
        except Declined as declined:
            return self._handle_declined(declined)
        except OSError as error:
            if self._repeats_at_once() and isinstance(error, ConnectionError):
                return 0.0
            self._tell_gone(error, type(error).__name__)
            return self._retry_seconds()
        finally:
            # What was sent and not answered may be there or not.
            self._knows_flight = False
            poster.close()
            self._poster = None

    def _publish(self, poster: Poster) -> None:
        """Runs until all is done or something fails."""
        sent_at = -self._linger_seconds
        while not self._is_done():
            if self._outbox.can_send:
                self._linger(sent_at)
                batch = self._next_batch(poster)
                sent_at = time.monotonic()
                if batch is not None:
                    self._post(poster, batch)
                self._look()
            elif self._outbox.fall_asleep():
                self._rest(poster)

    def _next_batch(self, poster: Poster) -> Optional[Batch]:
        """None: the daemon had everything already."""
        if not self._knows_flight:
            self._outbox.resume(self._ask(poster) if self._outbox.has_flight else 0)
            self._refused = 0
            self._knows_flight = True
        return self._outbox.batch(self._batch_bytes_max, BATCH_LINES_MAX)

    def _ask(self, poster: Poster) -> int:
        """The last line that the daemon has, which it tells on the Unix socket at the start of a connection."""
        accepted = poster.ask()
        if accepted > self._outbox.last_line:
            raise ConnectionAbortedError("what answers there is not the daemon: its counts cannot be right")
        self._note_connection(poster)
        return accepted

    def _post(self, poster: Poster, batch: Batch) -> None:
        try:
            receipt = poster.post(batch)
        except Declined as declined:
            if declined.status != 413:
                raise
            self._handle_too_large(batch, declined)
            return
        self._note_connection(poster)
        self._note_progress()
        self._settle(batch, receipt)

    def _settle(self, batch: Batch, receipt: Receipt) -> None:
        for line, reason in receipt.refused:
            self._outbox.refuse(line)
            self._report.is_refused(reason)
        self._refused += receipt.refused_total
        self._outbox.acknowledge(batch.last, self._refused)

    def _handle_too_large(self, batch: Batch, declined: Declined) -> None:
        """A proxy has a limit of its own, or the daemon a lower one for lines: sends less at once, and gives up a line
        that is too long alone."""
        self._batch_bytes_max = max(1, len(batch.data) // 2)
        if batch.events > 1:
            return
        self._note_progress()
        self._outbox.refuse(batch.first)
        self._report.is_refused(str(declined))
        self._outbox.acknowledge(batch.last)

    def _note_connection(self, poster: Poster) -> None:
        if self._counted != poster.connections:
            self._outbox.count_connection()
            self._counted = poster.connections

    def _note_progress(self) -> None:
        self._retries = 0
        self._may_repeat_at_once = True
        if not self._is_known:
            self._report.is_there(self._endpoint.address.url)
            self._is_known = True

    def _handle_declined(self, declined: Declined) -> float:
        if declined.status == 401 and not isinstance(self._endpoint.token, str) and self._repeats_at_once():
            # The token has expired: there is another one.
            return 0.0
        self._tell_gone(declined, str(declined.status))
        if declined.retry_after is not None and not declined.is_lasting:
            self._is_asked_to_wait = True
            asked = declined.retry_after * random.uniform(1.0, 1.0 + SPREAD)
            return max(asked, self._retry_seconds())
        if not declined.is_lasting:
            return self._retry_seconds()
        limit = min(DECLINED_FACTOR * self._retry_seconds_max, DECLINED_SECONDS_MIN * 2.0 ** min(self._retries, 16))
        self._retries += 1
        return limit * random.uniform(0.5, 1.0)

    def _repeats_at_once(self) -> bool:
        may, self._may_repeat_at_once = self._may_repeat_at_once, False
        return may

    def _tell_gone(self, error: OSError, kind: str) -> None:
        self._is_known = False
        self._report.is_gone(self._endpoint.address.url, error, kind)

    def _rest(self, poster: Poster) -> None:
        """Waits for something to send, and lets the connection go if the other side does, or in time."""
        until = time.monotonic() + IDLE_SECONDS_MAX
        with new_selector() as selector:
            selector.register(self._outbox.bell, selectors.EVENT_READ)
            if poster.is_open:
                selector.register(poster, selectors.EVENT_READ)
            is_rung = False
            while not is_rung:
                rest = max(0.0, until - time.monotonic()) if poster.is_open else None
                if self._report.has_news:
                    rest = min(LOOK_SECONDS, LOOK_SECONDS if rest is None else rest)
                ready = selector.select(rest)
                is_rung = any(key.fileobj is self._outbox.bell for key, _ in ready)
                has_more = any(key.fileobj is poster for key, _ in ready)
                if is_rung:  # and no ring that came since is forgotten
                    self._outbox.bell.silence()
                self._look()
                if poster.is_open and ((has_more and not poster.is_quiet()) or time.monotonic() >= until):
                    selector.unregister(poster)
                    poster.close()
        self._outbox.wake_up()

    def _pause(self, stream: socket.socket, events: int, until: float) -> int:
        """Waits for the network, looks after the log, and gives up when the publisher does."""
        with new_selector() as selector:
            selector.register(self._outbox.bell, selectors.EVENT_READ)
            selector.register(stream, events)
            while True:
                if self._outbox.is_stopped:
                    raise _Stopped
                rest = until - time.monotonic()
                if rest <= 0:
                    return 0
                ready = selector.select(min(rest, LOOK_SECONDS) if self._report.has_news else rest)
                self._outbox.bell.silence()
                self._look()
                for key, mask in ready:
                    if key.fileobj is stream:
                        return mask
