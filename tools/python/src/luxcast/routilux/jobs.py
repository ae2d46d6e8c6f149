"""What is remembered of jobs between their hooks."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict, deque
from typing import NamedTuple, Optional

from luxcast.routilux.engine import Job
from luxcast.routilux.events import now

JOBS_MAX = 10_000
"""Bounds memory for an engine that never ends its jobs: the one that started first is forgotten."""

OVER_MAX = 1_000
"""Jobs that we reported as over, and that the engine may still report on."""


class Failure(NamedTuple):
    routine_id: str
    kind: str
    """The name of the exception's class."""
    message: str


class Stop(NamedTuple):
    """The worker of a job will do nothing more."""

    status: str
    error: Optional[str]
    at: str


class KnownJob:
    """A job whose start was seen."""

    def __init__(self, job: Job, entry_routine: Optional[str], entry_slot: Optional[str]) -> None:
        self.job = job
        self.entry_routine = entry_routine
        self.entry_slot = entry_slot
        self.last_failure: Optional[Failure] = None
        self.stop: Optional[Stop] = None
        self.told: Optional[tuple[str, object]] = None
        """How we reported its end without the engine's word: the event's type and the given reason."""
        self.look_at = 0.0
        """When to check whether it is over."""
        self.began = time.monotonic()
        self.had_tasks = False
        # One entry for each task that the engine has of it; appending and popping are atomic.
        self.tasks: deque[None] = deque()
        # A job is idle after its last task, and before its first.
        self.idle_since: Optional[float] = self.began
        self.idle_at = now()
        # An atomic counter, since several threads of the engine count at once.
        self._events = itertools.count(1)

    def count_event(self) -> int:
        """The number of its events, including this one."""
        return next(self._events)

    @property
    def is_idle(self) -> bool:
        """Whether the engine has nothing to do for it."""
        return not self.tasks

    def queue_task(self) -> None:
        # In this order: a reader that then finds no task also finds the time of that.
        self.had_tasks = True
        self.tasks.append(None)
        self.idle_since = None

    def finish_task(self) -> bool:
        """Whether that was the last task."""
        try:
            self.tasks.pop()
        except IndexError:  # queued before we were there
            return False
        if self.tasks:
            return False
        self.idle_at = now()
        self.idle_since = time.monotonic()
        return True


class Jobs:
    """By job id. Without a lock, which a fork could leave held: each step is one atomic call of a dictionary."""

    def __init__(self, jobs_max: int = JOBS_MAX, over_max: int = OVER_MAX) -> None:
        self._jobs_max = jobs_max
        self._over_max = over_max
        self._running: OrderedDict[str, KnownJob] = OrderedDict()
        self._over: OrderedDict[str, KnownJob] = OrderedDict()
        self._of_workers: dict[str, dict[str, KnownJob]] = {}

    def begin(self, known: KnownJob) -> None:
        job_id = known.job.job_id
        self._over.pop(job_id, None)
        before = self._running.pop(job_id, None)
        if before is not None:
            known.tasks = before.tasks  # posted once more under the same id
        self._running[job_id] = known
        self._of_workers.setdefault(known.job.worker_id, {})[job_id] = known
        if len(self._running) > self._jobs_max:
            _, oldest = self._running.popitem(last=False)
            self._leave_worker(oldest)

    def get(self, job_id: str) -> Optional[KnownJob]:
        return self._running.get(job_id)

    def of_worker(self, worker_id: str) -> list[KnownJob]:
        """Jobs that run on this worker."""
        return list(self._of_workers.get(worker_id, {}).values())

    def all(self) -> list[KnownJob]:
        """Jobs that are running."""
        return list(self._running.values())

    def end(self, job_id: str) -> Optional[KnownJob]:
        """Ends it by the engine's word, before or after our own."""
        known = self._running.pop(job_id, None) or self._over.pop(job_id, None)
        if known is not None:
            self._leave_worker(known)
        return known

    def take(self, known: KnownJob) -> bool:
        """Whether it was still running: of all threads that find it over, only one may report that."""
        job_id = known.job.job_id
        if self._running.get(job_id) is not known or self._running.pop(job_id, None) is None:
            return False
        self._leave_worker(known)
        self._over[job_id] = known
        if len(self._over) > self._over_max:
            self._over.popitem(last=False)
        return True

    def revive(self, job: Job) -> Optional[KnownJob]:
        """Reopens a job that we reported as over, and that has work again."""
        known = self._over.get(job.job_id)
        if known is None or known.job is not job or self._over.pop(job.job_id, None) is None:
            return None
        self._running[job.job_id] = known
        self._of_workers.setdefault(job.worker_id, {})[job.job_id] = known
        return known

    def _leave_worker(self, known: KnownJob) -> None:
        jobs = self._of_workers.get(known.job.worker_id, {})
        if jobs.get(known.job.job_id) is known:
            jobs.pop(known.job.job_id, None)
        if not jobs:
            self._of_workers.pop(known.job.worker_id, None)
