"""Finds jobs that are over. Routilux 1.1.0 ends a job only when somebody calls `complete_job`, and nobody need do that:
its server does not, nor does its command line."""

from __future__ import annotations

import threading
import time
from typing import Callable, Optional

from luxcast.routilux.jobs import KnownJob


class Ends:
    """A thread that looks again, some time later, at jobs for which the engine had nothing to do."""

    def __init__(
        self, seconds: float, is_over: Callable[[KnownJob], None], count_fault: Callable[[], None]
    ) -> None:
        self._seconds = seconds
        self._is_over = is_over
        self._count_fault = count_fault
        self._due: dict[KnownJob, float] = {}
        self._has_more = threading.Event()
        self._is_stopped = False
        self._starting = threading.Lock()
        self._thread: Optional[threading.Thread] = None

    def look_at(self, known: KnownJob) -> None:
        """In a while, whether it is still as it is now."""
        self._due[known] = time.monotonic() + self._seconds
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
                try:
                    self._wait_and_look()
                except Exception:
                    self._count_fault()
                    time.sleep(1.0)

    def _wait_and_look(self) -> None:
        """All wait for the same time, so that none is due before the first of them."""
        time.sleep(max(0.0, min(self._due.values()) - time.monotonic()))
        now = time.monotonic()
        for known, at in list(self._due.items()):
            if at <= now:
                self._due.pop(known, None)
                self._is_over(known)
