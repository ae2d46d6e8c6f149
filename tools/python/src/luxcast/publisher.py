"""The public class `Publisher`, and what all publishers of a process share: its forks and its end."""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from luxcast.address import is_url
from luxcast.encode import encode
from luxcast.head import Heads, kind_of
from luxcast.outbox import Outbox, rank
from luxcast.problems import Problem
from luxcast.report import Report
from luxcast.sender import Sender
from luxcast.settings import default_paths, default_token, default_url, is_disabled
from luxcast.socket_sender import SocketSender
from luxcast.stats import Stats
from luxcast.values import shown

if TYPE_CHECKING:
    import ssl

    from luxcast.endpoint import Endpoint, Token

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,90}")
"""Longest name: the daemon's limit less what makes the name unique."""

SHOWN_MAX = 200
"""How many characters are shown of why an event could not be read."""

STOP_SECONDS_MAX = 1.0
"""Time for the sender's thread to notice that it must stop: it may be inside a slow log handler."""

RESTART_SECONDS_MIN = 1.0
"""Pause between two starts of the sender's thread, if something ends it each time."""

CHILD_EXIT_PRIORITY = -100
"""Runs after everything else at the end of a child, which may publish."""


class Publisher:
    """Sends events to the daemon. `publish` never waits, never raises, and keeps a bounded number of events.

    Any number of threads may use it; the order of each thread's events is kept. A forked child has its own buffer,
    connection and counters, which start with its first event.
    """

    def __init__(
        self,
        path: Optional[Union[str, "os.PathLike[str]"]] = None,
        *,
        token: Optional[Token] = None,
        ca: Optional[Union[str, "os.PathLike[str]"]] = None,
        ssl_context: Optional[ssl.SSLContext] = None,
        proxy: Optional[str] = None,
        name: str = "python",
        events_max: int = 100_000,
        bytes_max: int = 16 << 20,
        line_bytes_max: int = 1_000_000,
        linger_seconds: float = 0.005,
        retry_seconds_max: float = 5.0,
        exit_seconds: float = 2.0,
        logger: Optional[logging.Logger] = None,
    ) -> None:
        """`path` is the daemon's socket, or its URL. Raises ValueError for a setting that makes no sense, TypeError if
        `path` is not a path. The README lists the settings."""
        if _NAME.fullmatch(name) is None:
            raise ValueError("name must be 1 to 90 characters from A-Z a-z 0-9 _ . : -")
        if events_max < 1 or line_bytes_max < 100 or bytes_max < line_bytes_max:
            raise ValueError("events_max must be 1 or more, line_bytes_max 100 or more, and bytes_max not below it")
        if min(linger_seconds, exit_seconds) < 0 or retry_seconds_max <= 0:
            raise ValueError("linger_seconds and exit_seconds must not be negative, retry_seconds_max must be positive")
        given = os.fsdecode(path) if path is not None else ""
        if "\0" in given:
            raise ValueError("path must not contain a NUL")
        self._is_disabled = is_disabled()
        self._endpoint: Optional[Endpoint] = None
        self._paths: tuple[str, ...] = ()
        if url := given if is_url(given) else "" if given else default_url():
            self._paths = (url.partition("?")[0],)
            if not self._is_disabled:
                self._endpoint = _endpoint(url, token, ca, ssl_context, proxy)
                self._paths = (self._endpoint.address.url,)
        elif token or ca or ssl_context or proxy:
            raise ValueError("token, ca, ssl_context and proxy must go with the daemon's URL in place of a path")
        else:
            self._paths = (given,) if given else default_paths()
        self.exit_seconds = exit_seconds
        self._name = name
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._line_bytes_max = line_bytes_max
        self._linger_seconds = linger_seconds
        self._retry_seconds_max = retry_seconds_max
        self._logger = logger
        self._heads = Heads()
        self._at_exit: list[Callable[[], None]] = []
        self._starting = threading.Lock()
        self._sender: Optional[Sender] = None
        self._started_at = -RESTART_SECONDS_MIN
        self._only_name = self._make_name()
        self._report = self._make_report()
        if not self._is_disabled:
            self._outbox = Outbox(events_max, bytes_max)
            _open.add(self)

    def publish(self, event: Mapping[str, Any]) -> bool:
        """Takes an event as it is at this moment, to be sent soon.

        Returns False if it was dropped, which is counted. Also False while the sending thread fails, which `stats`
        shows: then the event waits like all others, but may never be sent.
        """
        if self._is_disabled:
            return False
        outbox = self._outbox
        try:
            if not isinstance(event, (dict, Mapping)):
                outbox.count_invalid()
                words = f"an event was dropped: it is not a mapping, but of type {type(event).__name__}"
                return self._drop(Problem("not a mapping", words), sys._getframe(1))
            whole = event if isinstance(event, dict) else dict(event)
            kind = whole.get("type")
            if kind.__class__ is not str:
                kind = kind_of(kind)
            if not self._heads.is_good(whole, kind):
                whole, problem = self._heads.settle(whole, kind)
                if problem is not None:
                    words = f"an event that the daemon will refuse: {problem.words}"
                    outbox.note_problem(Problem(problem.kind, words), _place(sys._getframe(1)))
            line, is_cut = encode(whole, self._line_bytes_max)
            if line is None:
                outbox.count_too_large()
                words = f"an event was dropped: even shortened it is over {self._line_bytes_max} bytes"
                return self._drop(Problem("too large", words), sys._getframe(1))
            is_kept = outbox.put(line, rank(kind), is_cut)
            if self._sender is None or self._sender.has_ended:
                self._start()
            return is_kept and not outbox.is_sender_failing
        except Exception as error:
            outbox.count_fault()
            words = f"an event was lost because reading it failed: {ascii(shown(error))[:SHOWN_MAX]}"
            return self._drop(Problem(f"fault {type(error).__name__}", words), sys._getframe(1))

    def _drop(self, problem: Problem, caller: FrameType) -> bool:
        """Reports it to the log through the sender's thread; returns False."""
        self._outbox.note_problem(problem, _place(caller))
        if self._sender is None or self._sender.has_ended:
            self._start()
        return False

    def count_fault(self) -> None:
        """Counts a failure on the way here that was kept from the engine."""
        if not self._is_disabled:
            self._outbox.count_fault()

    def stats(self) -> Stats:
        """The counters of this process; all 0 if publishing is disabled."""
        return Stats() if self._is_disabled else self._outbox.stats()

    @property
    def path(self) -> str:
        """Where the daemon's socket is looked for first, or the daemon's URL."""
        return self._paths[0]

    @property
    def is_disabled(self) -> bool:
        return self._is_disabled

    def flush(self, deadline: float = 5.0) -> bool:
        """Waits up to this many seconds until everything is acknowledged; returns whether it is."""
        return self._is_disabled or self._outbox.wait_until_empty(deadline)

    def close(self, deadline: float = 5.0) -> bool:
        """Takes no more events, sends what waits, and gives up after this many seconds.

        Returns whether all was acknowledged. The rest is counted as `dropped_closed`.
        """
        if self._is_disabled:
            return True
        _open.discard(self)
        if self._sender is not None and self._sender.has_ended and not self._outbox.is_empty:
            self._start()
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
        """Waits no longer than the end of the process would."""
        self.close(self.exit_seconds)

    def at_exit(self, work: Callable[[], None]) -> None:
        """Calls this at the end of the process, before the publisher closes: it may publish."""
        self._at_exit.append(work)

    def not_at_exit(self, work: Callable[[], None]) -> None:
        """Undoes `at_exit`."""
        if work in self._at_exit:
            self._at_exit.remove(work)

    def close_at_exit(self) -> None:
        """Runs at the end of the process."""
        for work in list(self._at_exit):
            try:
                work()
            except Exception:
                self.count_fault()
        self.close(self.exit_seconds)

    def _make_name(self) -> str:
        """Makes the name unique: otherwise the daemon would confuse the lines of two publishers."""
        return f"{self._name}-{uuid.uuid4().hex}"

    def _make_report(self) -> Report:
        return Report(self._logger, lambda error: self._outbox.count_sender_fault(error, is_failing=False))

    def _start(self) -> None:
        """Starts the sender's thread, or a new one if something ended the old one."""
        # A start already in progress needs no help, even if a signal handler interrupted this very thread.
        if not self._starting.acquire(blocking=False):
            return
        try:
            now = time.monotonic()
            is_there = self._sender is not None and not self._sender.has_ended
            if is_there or self._outbox.is_stopped or now < self._started_at + RESTART_SECONDS_MIN:
                return
            self._started_at = now
            sender = self._make_sender()
            sender.start()
            if self._sender is None:
                _close_with_child(self)
            self._sender = sender
        except Exception as error:
            # For example, no thread can be created.
            self._outbox.count_sender_fault(error)
        finally:
            self._starting.release()

    def _make_sender(self) -> Sender:
        common = (self._outbox, self._report, self._only_name, self._linger_seconds, self._retry_seconds_max)
        if self._endpoint is None:
            return SocketSender(self._paths, *common)
        from luxcast.http_sender import HttpSender

        return HttpSender(self._endpoint, *common)

    def _begin_anew(self) -> None:
        """In a forked child: sends nothing of the parent's, and leaves the connection to it."""
        parents_sender, parents_outbox = self._sender, self._outbox
        self._starting = threading.Lock()
        self._sender = None
        self._started_at = -RESTART_SECONDS_MIN
        self._only_name = self._make_name()
        self._report = self._make_report()
        self._heads = Heads()
        parents_outbox.bell.close()
        if parents_sender is not None:
            parents_sender.abandon()
        try:
            self._outbox = Outbox(self._events_max, self._bytes_max)
        except OSError:
            # Without a free descriptor, silence is all that remains: the parent's buffer must not be used here.
            self._is_disabled = True


_open: set[Publisher] = set()
"""Publishers that are neither disabled nor closed."""


def _endpoint(
    url: str,
    token: Optional[Token],
    ca: Optional[Union[str, "os.PathLike[str]"]],
    context: Optional[ssl.SSLContext],
    proxy: Optional[str],
) -> Endpoint:
    """Imports what HTTP needs, since that takes time and few need it. It does so here and not in a thread beside which
    the process may fork."""
    import luxcast.http_sender
    from luxcast.endpoint import endpoint

    return endpoint(url, token, default_token(), ca, context, proxy)


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _close_with_child(publisher: Publisher) -> None:
    """Registers with multiprocessing, whose children end in their own way and not by `atexit`. What is registered
    before a child's work begins is forgotten, so this is called for its first event."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        util = importlib.import_module("multiprocessing.util")
        util.Finalize(None, publisher.close_at_exit, exitpriority=CHILD_EXIT_PRIORITY)


def _after_fork_in_child() -> None:
    for publisher in list(_open):
        publisher._begin_anew()


def _at_exit() -> None:
    for publisher in list(_open):
        publisher.close_at_exit()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
