"""Makes events from the reports of the engine's hooks and functions. Its methods may raise; their callers keep
that from the engine."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, NamedTuple, Optional

from luxcast.publisher import Publisher
from luxcast.routilux import events
from luxcast.routilux.ends import Ends
from luxcast.routilux.engine import Job, Named, SlotOfRoutine, Worker
from luxcast.routilux.jobs import Failure, Jobs, KnownJob, Stop
from luxcast.routilux.posted import posted

GRACE_SECONDS = 0.5
"""How long the end of the process, and `uninstall`, wait for jobs that are nearly done."""

STEP_SECONDS = 0.01


class _Running(NamedTuple):
    routine_id: str
    since: float


class _At(NamedTuple):
    """The routine and its run."""

    job: Optional[Job]
    flow_id: str
    routine_id: str
    slot_name: Optional[str]


class _Filled(NamedTuple):
    """A slot that got data; then the engine runs its routine in the same thread if it is ready."""

    routine: object
    at: _At


class _Here(threading.local):
    """What this thread is doing."""

    running: Optional[_Running] = None
    filled: Optional[_Filled] = None


class Recorder:
    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self._here = _Here()
        self._idle_seconds: Optional[float] = None
        self.begin_anew()

    def end_idle_jobs(self, seconds: Optional[float]) -> None:
        """From now on, a job for which the engine has had nothing to do for this long is over; None disables this."""
        self._idle_seconds = seconds
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forgets all jobs, as in a forked child, which has none of the engine's threads."""
        self._jobs = Jobs()
        seconds = self._idle_seconds
        self._ends = None if seconds is None else Ends(seconds, self._look_whether_over, self.publisher.count_fault)

    def stop(self, deadline: float) -> None:
        """Ends jobs that are over, including those that will be within this many seconds."""
        ends, self._ends = self._ends, None
        if ends is not None:
            ends.stop()
            self._wait_until_idle(min(GRACE_SECONDS, deadline))
            self._end_all_that_are_over()

    def end_with_process(self) -> None:
        """The engine's remaining work will not be done. Work of a moment may be finished first."""
        if self._ends is None:
            return
        self._wait_until_idle(GRACE_SECONDS)
        for known in self._jobs.all():
            if not known.is_idle and known.stop is None:
                known.stop = Stop("cancelled", "the process ended", events.now())
        self._end_all_that_are_over()

    def _wait_until_idle(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(not known.is_idle and not known.stop for known in self._jobs.all()):
            time.sleep(STEP_SECONDS)

    def _end_all_that_are_over(self) -> None:
        for known in self._jobs.all():
            try:
                self._look_whether_over(known)
            except Exception:
                self.publisher.count_fault()

    def job_started(self, job: Job) -> None:
        routine_id, slot_name, params = posted()
        known = KnownJob(job, routine_id, slot_name)
        self._jobs.begin(known)
        data = {"entry_routine": routine_id, "params": params}
        self._send(job, events.job_event("job_started", job.job_id, job.flow_id, data))
        self._look_later(known)

    def job_ended(self, job: Job, status: str, error: Optional[Exception]) -> None:
        """The engine's word. If we reported the same before, nothing is repeated."""
        known = self._jobs.end(job.job_id)
        kind, data = _end(job, known, status, error, None)
        if known is None or known.told != (kind, _why(data)):
            self.publisher.publish(events.job_event(kind, job.job_id, job.flow_id, data))

    def task_queued(self, job: Optional[Job]) -> None:
        known = None if job is None else self._jobs.get(job.job_id) or self._jobs.revive(job)
        if known is not None:
            known.queue_task()

    def task_done(self, job: Optional[Job]) -> None:
        known = self._known(job)
        if known is not None and known.finish_task():
            self._look_later(known)

    def worker_stopped(self, worker: Worker, status: str) -> None:
        """No more work is done for its jobs, except what is being done at this moment."""
        error = getattr(worker, "error", None)
        for known in self._jobs.of_worker(worker.worker_id):
            known.stop = Stop(status, error, events.now())
            self._look_later(known)

    def routine_started(self, routine_id: str, worker: Worker, job: Optional[Job]) -> None:
        """A routine that a job was posted to. `run_of` reports all others."""
        self._here.running = _Running(routine_id, time.perf_counter())
        self._started(self._entry(routine_id, worker, job))

    def routine_ended(
        self, routine_id: str, worker: Worker, job: Optional[Job], status: str, error: Optional[Exception]
    ) -> None:
        running = self._here.running
        self._here.running = None
        at = self._entry(routine_id, worker, job)
        if status == "completed":
            is_known = running is not None and running.routine_id == routine_id
            self._completed(at, time.perf_counter() - running.since if running is not None and is_known else None)
        else:
            self._failed(at, error)

    def run_of(self, routine: object) -> Optional[SlotRun]:
        """The run that follows, if any, of a routine whose slot this thread has just filled."""
        filled = self._here.filled
        self._here.filled = None
        return SlotRun(self, filled.at) if filled is not None and filled.routine is routine else None

    def event_emitted(self, event: Named, routine_id: str, worker: Worker, job: Optional[Job], data: object) -> None:
        inner = {"event_name": event.name, "data": data}
        flow_id = _flow(job, worker.flow_id)
        self._send(job, events.execution_event(_id(job), flow_id, routine_id, "event_emit", inner))

    def slot_filled(self, slot: SlotOfRoutine, routine_id: str, job: Optional[Job], data: object, flow_id: str) -> None:
        self._here.filled = _Filled(slot.routine, _At(job, flow_id, routine_id, slot.name))
        inner = {"slot_name": slot.name, "arguments": data}
        self._send(job, events.execution_event(_id(job), flow_id, routine_id, "slot_call", inner))

    def slot_withheld(
        self, slot: Named, routine_id: str, job: Optional[Job], data: object, flow_id: str, reason: Optional[str]
    ) -> None:
        """The earlier hooks said no. For a breakpoint, its id is in the reason."""
        _, is_breakpoint, breakpoint_id = (reason or "").partition("breakpoint_")
        if is_breakpoint:
            hit = events.breakpoint_hit(_id(job), flow_id, breakpoint_id, routine_id, slot.name, data)
            self._send(job, hit)

    def _entry(self, routine_id: str, worker: Worker, job: Optional[Job]) -> _At:
        known = self._known(job)
        slot_name = known.entry_slot if known is not None and known.entry_routine == routine_id else None
        return _At(job, _flow(job, worker.flow_id), routine_id, slot_name)

    def _started(self, at: _At) -> None:
        data = {"slot_name": at.slot_name}
        self._send(at.job, events.routine_event("routine_started", _id(at.job), at.flow_id, at.routine_id, data))

    def _completed(self, at: _At, seconds: Optional[float]) -> None:
        data = {"duration": None if seconds is None else round(seconds, 6)}
        self._send(at.job, events.routine_event("routine_completed", _id(at.job), at.flow_id, at.routine_id, data))

    def _failed(self, at: _At, error: Optional[BaseException]) -> None:
        kind, message = type(error).__name__, str(error)
        known = self._known(at.job)
        if known is not None:
            known.last_failure = Failure(at.routine_id, kind, message)
        inner = {"error": message, "error_type": kind}
        self._send(at.job, events.execution_event(_id(at.job), at.flow_id, at.routine_id, "error", inner))
        data = {"error": f"{kind}: {message}", "error_type": kind, "slot_name": at.slot_name}
        self._send(at.job, events.routine_event("routine_failed", _id(at.job), at.flow_id, at.routine_id, data))

    def _look_later(self, known: KnownJob) -> None:
        ends = self._ends
        if ends is not None:
            ends.look_at(known)

    def _look_whether_over(self, known: KnownJob) -> None:
        """Reports that it is over if there is nothing to do for it, or nobody to do it."""
        stop = None if known.is_idle else known.stop
        if (not known.is_idle and stop is None) or not self._jobs.take(known):
            return
        job = known.job
        status = job.status if job.status in ("completed", "failed", "cancelled") else _status(known, stop)
        kind, data = _end(job, known, status, None, stop)
        known.told = (kind, _why(data))
        at = known.idle_at if stop is None else stop.at
        self.publisher.publish(events.job_event(kind, job.job_id, job.flow_id, data, at))

    def _known(self, job: Optional[Job]) -> Optional[KnownJob]:
        return None if job is None else self._jobs.get(job.job_id)

    def _send(self, job: Optional[Job], event: events.Event) -> None:
        known = self._known(job)
        if known is not None:
            known.count_event()
        self.publisher.publish(event)


class SlotRun:
    """One run of a routine's logic, which the engine reports to no hook."""

    def __init__(self, recorder: Recorder, at: _At) -> None:
        self._recorder = recorder
        self._at = at

    def of(self, logic: Callable[..., Any]) -> Callable[..., Any]:
        """Runs the logic and reports its start and how it ended."""

        def observed(*given: Any, **named: Any) -> Any:
            self._tell(Recorder._started, self._at)
            since = time.perf_counter()
            try:
                answer = logic(*given, **named)
            except BaseException as error:
                self._tell(Recorder._failed, self._at, error)
                raise
            self._tell(Recorder._completed, self._at, time.perf_counter() - since)
            return answer

        return observed

    def _tell(self, note: Callable[..., None], *told: object) -> None:
        try:
            note(self._recorder, *told)
        except Exception:
            self._recorder.publisher.count_fault()


def _id(job: Optional[Job]) -> Optional[str]:
    return None if job is None else job.job_id


def _flow(job: Optional[Job], flow_id: str) -> str:
    """The worker's flow if there is no job."""
    return job.flow_id if job is not None and job.flow_id else flow_id


def _status(known: KnownJob, stop: Optional[Stop]) -> str:
    """How a job ended about which the engine says nothing."""
    if stop is not None:
        return "failed" if stop.status == "failed" else "cancelled"
    return "completed" if known.had_tasks and known.last_failure is None else "failed"


def _end(
    job: Job, known: Optional[KnownJob], status: str, error: Optional[Exception], stop: Optional[Stop]
) -> tuple[str, events.Event]:
    """The type and the data of the event that ends a job."""
    if status == "completed":
        return "job_completed", _completion(job, known)
    if status == "cancelled":
        return "job_cancelled", {"reason": job.error or (stop and (stop.error or "its worker was stopped"))}
    return "job_failed", _failure(job, known, error, stop)


def _why(data: events.Event) -> object:
    """The reason given by the end of a job."""
    return data.get("error") or data.get("reason")


def _completion(job: Job, known: Optional[KnownJob]) -> events.Event:
    if job.completed_at is not None:
        duration: Optional[float] = (job.completed_at - job.created_at).total_seconds()
    else:
        duration = round(known.idle_since - known.began, 6) if known is not None and known.idle_since else None
    return {"duration": duration, "total_events": None if known is None else known.count_event()}


def _failure(
    job: Job, known: Optional[KnownJob], error: Optional[Exception], stop: Optional[Stop]
) -> events.Event:
    """What went wrong by the engine's word; its kind and place too, if it refers to the last failure seen."""
    text = job.error or (None if error is None else str(error)) or (stop and stop.error)
    last = None if known is None else known.last_failure
    if last is not None and (text is None or last.message in text):
        text = text or f"{last.kind}: {last.message}"
        return {"error": text, "error_type": last.kind, "routine_id": last.routine_id}
    if text is None and known is not None and not known.had_tasks:
        text = "no routine was given any work"
    return {"error": text, "error_type": None, "routine_id": None}
