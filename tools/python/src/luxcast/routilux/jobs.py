"""What is remembered of jobs between their hooks."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import NamedTuple, Optional

JOBS_MAX = 10_000
"""An engine that never ends its jobs must not make us grow: the one that began first is forgotten."""


class Failure(NamedTuple):
    routine_id: str
    kind: str
    """The name of the exception's class."""
    message: str


class KnownJob:
    """A job whose start was seen."""

    def __init__(self, entry_routine: Optional[str], entry_slot: Optional[str]) -> None:
        self.entry_routine = entry_routine
        self.entry_slot = entry_slot
        # Counting in one step, as the engine's threads do it at once.
        self._events = itertools.count(1)
        self.last_failure: Optional[Failure] = None

    def count_event(self) -> int:
        """How many events there were of it, with this one."""
        return next(self._events)


class Jobs:
    """By job id. Without a lock, which a fork could leave held: each step is one call of a dictionary."""

    def __init__(self, jobs_max: int = JOBS_MAX) -> None:
        self._jobs_max = jobs_max
        self._jobs: OrderedDict[str, KnownJob] = OrderedDict()

    def begin(self, job_id: str, job: KnownJob) -> None:
        self._jobs[job_id] = job
        if len(self._jobs) > self._jobs_max:
            self._jobs.popitem(last=False)

    def get(self, job_id: str) -> Optional[KnownJob]:
        return self._jobs.get(job_id)

    def end(self, job_id: str) -> Optional[KnownJob]:
        return self._jobs.pop(job_id, None)
