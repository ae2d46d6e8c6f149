"""Makes events out of what the engine's hooks tell. Its methods may raise: `hooks` keeps that from the engine."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple, Optional

from luxcast.publisher import Publisher
from luxcast.routilux import events
from luxcast.routilux.engine import Job, Named, Worker
from luxcast.routilux.jobs import Failure, Jobs, KnownJob
from luxcast.routilux.posted import posted


class _Running(NamedTuple):
    routine_id: str
    since: float


class _Filled(NamedTuple):
    """A slot that got data, after which the engine runs the slot's routine in the same thread if it is ready."""

    job: Optional[Job]
    flow_id: str
    routine_id: str
    slot_name: str


class _Here(threading.local):
    """What this thread is at."""

    running: Optional[_Running] = None
    filled: Optional[_Filled] = None


class Recorder:
    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self._jobs = Jobs()
        self._here = _Here()

    def job_started(self, job: Job) -> None:
        routine_id, slot_name, params = posted()
        known = KnownJob(routine_id, slot_name)
        self._jobs.begin(job.job_id, known)
        data = {"entry_routine": routine_id, "params": params}
        self._send(job, events.job_event("job_started", job.job_id, job.flow_id, data))

    def job_ended(self, job: Job, status: str, error: Optional[Exception]) -> None:
        known = self._jobs.end(job.job_id)
        if status == "completed":
            kind, data = "job_completed", _completion(job, known)
        elif status == "cancelled":
            kind, data = "job_cancelled", {"reason": job.error}
        else:
            kind, data = "job_failed", _failure(job, known, error)
        self.publisher.publish(events.job_event(kind, job.job_id, job.flow_id, data))

    def routine_started(self, routine_id: str, worker: Worker, job: Optional[Job]) -> None:
        self._here.running = _Running(routine_id, time.perf_counter())
        known = self._known(job)
        is_entry = known is not None and known.entry_routine == routine_id
        data = {"slot_name": known.entry_slot if known is not None and is_entry else None}
        self._send(job, events.routine_event("routine_started", _id(job), _flow(job, worker.flow_id), routine_id, data))

    def routine_ended(
        self, routine_id: str, worker: Worker, job: Optional[Job], status: str, error: Optional[Exception]
    ) -> None:
        running = self._here.running
        self._here.running = None
        flow_id = _flow(job, worker.flow_id)
        if status == "completed":
            is_known = running is not None and running.routine_id == routine_id
            data = {"duration": round(time.perf_counter() - running.since, 6) if running and is_known else None}
            self._send(job, events.routine_event("routine_completed", _id(job), flow_id, routine_id, data))
            return
        known = self._known(job)
        slot_name = known.entry_slot if known is not None and known.entry_routine == routine_id else None
        self._routine_failed(_Filled(job, flow_id, routine_id, slot_name or ""), error)

    def error_logged(self, error: BaseException) -> None:
        """The engine logged that a routine failed. It tells the hooks so only of routines that jobs were posted to."""
        filled = self._here.filled
        if filled is not None and self._here.running is None:
            self._routine_failed(filled, error)

    def event_emitted(self, event: Named, routine_id: str, worker: Worker, job: Optional[Job], data: object) -> None:
        inner = {"event_name": event.name, "data": data}
        flow_id = _flow(job, worker.flow_id)
        self._send(job, events.execution_event(_id(job), flow_id, routine_id, "event_emit", inner))

    def slot_filled(self, slot: Named, routine_id: str, job: Optional[Job], data: object, flow_id: str) -> None:
        self._here.filled = _Filled(job, flow_id, routine_id, slot.name)
        inner = {"slot_name": slot.name, "arguments": data}
        self._send(job, events.execution_event(_id(job), flow_id, routine_id, "slot_call", inner))

    def slot_withheld(
        self, slot: Named, routine_id: str, job: Optional[Job], data: object, flow_id: str, reason: Optional[str]
    ) -> None:
        """The hooks before us said no. If it was a breakpoint, its id is in the reason."""
        _, is_breakpoint, breakpoint_id = (reason or "").partition("breakpoint_")
        if is_breakpoint:
            hit = events.breakpoint_hit(_id(job), flow_id, breakpoint_id, routine_id, slot.name, data)
            self._send(job, hit)

    def _routine_failed(self, at: _Filled, error: Optional[BaseException]) -> None:
        kind, message = type(error).__name__, str(error)
        known = self._known(at.job)
        if known is not None:
            known.last_failure = Failure(at.routine_id, kind, message)
        inner = {"error": message, "error_type": kind}
        self._send(at.job, events.execution_event(_id(at.job), at.flow_id, at.routine_id, "error", inner))
        data = {"error": f"{kind}: {message}", "error_type": kind, "slot_name": at.slot_name or None}
        self._send(at.job, events.routine_event("routine_failed", _id(at.job), at.flow_id, at.routine_id, data))

    def _known(self, job: Optional[Job]) -> Optional[KnownJob]:
        return None if job is None else self._jobs.get(job.job_id)

    def _send(self, job: Optional[Job], event: events.Event) -> None:
        known = self._known(job)
        if known is not None:
            known.count_event()
        self.publisher.publish(event)


def _id(job: Optional[Job]) -> Optional[str]:
    return None if job is None else job.job_id


def _flow(job: Optional[Job], flow_id: str) -> str:
    """The worker's flow where there is no job."""
    return job.flow_id if job is not None and job.flow_id else flow_id


def _completion(job: Job, known: Optional[KnownJob]) -> events.Event:
    duration = (job.completed_at - job.created_at).total_seconds() if job.completed_at is not None else None
    return {"duration": duration, "total_events": None if known is None else known.count_event()}


def _failure(job: Job, known: Optional[KnownJob], error: Optional[Exception]) -> events.Event:
    """What the engine says went wrong; of which kind and where, if it speaks of the failure that was seen last."""
    text = job.error or (None if error is None else str(error))
    last = None if known is None else known.last_failure
    if last is not None and (text is None or last.message in text):
        text = text or f"{last.kind}: {last.message}"
        return {"error": text, "error_type": last.kind, "routine_id": last.routine_id}
    return {"error": text, "error_type": None, "routine_id": None}
