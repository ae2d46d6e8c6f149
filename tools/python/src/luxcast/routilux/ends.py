"""Finds jobs that are over. Routilux 1.1.0 ends a job only when `complete_job` is called, which neither its server
nor its command line does."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Callable, Optional

from luxcast.routilux.jobs import KnownJob


STEP_SECONDS = 0.02
"""Jobs that are due at nearly the same moment are checked together."""


class Ends:
    """A thread that later checks jobs for which the engine had nothing to do."""

    def __init__(
        self, seconds: float, is_over: Callable[[KnownJob], None], count_fault: Callable[[], None]
    ) -> None:
        self._seconds = seconds
        self._is_over = is_over
        self._count_fault = count_fault
        # All wait equally long, so the first one here is the first one due.
        self._due: deque[tuple[float, KnownJob]] = deque()
        self._has_more = threading.Event()
        self._is_stopped = False
        self._starting = threading.Lock()
        self._thread: Optional[threading.Thread] = None

    def look_at(self, known: KnownJob) -> None:
        """Checks after a while whether the job is still as it is now."""
        known.look_at = at = time.monotonic() + self._seconds
        self._due.append((at, known))
        if not self._has_more.is_set():
            self._has_more.set()
        if self._thread is None and self._starting.acquire(blocking=False):
            try:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="luxcast-ends", daemon=True)
                    thread.start()
                    self._thread = thread
            finally:
                self._starting.release()

    def stop(self) -> None:
        self._is_stopped = True
        self._has_more.set()

    def _run(self) -> None:
        while not self._is_stopped:
            self._has_more.wait()
            self._has_more.clear()
            while self._due and not self._is_stopped:
                rest = self._due[0][0] - time.monotonic()
                if rest > 0:
                    time.sleep(max(rest, STEP_SECONDS))
                else:
                    self._look(*self._due.popleft())

    def _look(self, at: float, known: KnownJob) -> None:
        # Otherwise it is checked again later.
        if known.look_at == at:
            try:
                self._is_over(known)
            except Exception:
                self._count_fault()
