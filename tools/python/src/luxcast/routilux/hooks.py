"""The hooks that the engine calls: each asks the hooks that were there before, and tells the recorder.

Parameters have the engine's names, since it calls `on_slot_before_enqueue` with keywords: with another name the call
would fail, the engine would only log that, and flows would stop.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from luxcast.routilux.engine import HooksBefore
from luxcast.routilux.recorder import Recorder


class Hooks:
    """Answers what the hooks before it answer, raises what they raise, and nothing else."""

    def __init__(self, recorder: Recorder, before: HooksBefore) -> None:
        self.before = before
        self.is_active = True
        self._recorder = recorder

    def __getattr__(self, name: str) -> Any:
        """Hooks of an engine newer than this are for those before."""
        return getattr(self.__dict__["before"], name)

    def on_worker_start(self, flow: Any, worker_state: Any) -> None:
        self.before.on_worker_start(flow, worker_state)

    def on_worker_stop(self, flow: Any, worker_state: Any, status: str) -> None:
        self.before.on_worker_stop(flow, worker_state, status)

    def on_job_start(self, job_context: Any, worker_state: Any) -> None:
        self._tell(self._recorder.job_started, job_context)
        self.before.on_job_start(job_context, worker_state)

    def on_job_end(
        self, job_context: Any, worker_state: Any, status: str = "completed", error: Optional[Exception] = None
    ) -> None:
        self._tell(self._recorder.job_ended, job_context, status, error)
        self.before.on_job_end(job_context, worker_state, status, error)

    def on_routine_start(self, routine_id: str, worker_state: Any, job_context: Any = None) -> bool:
        answer = self.before.on_routine_start(routine_id, worker_state, job_context)
        if answer:
            self._tell(self._recorder.routine_started, routine_id, worker_state, job_context)
        return answer

    def on_routine_end(
        self,
        routine_id: str,
        worker_state: Any,
        job_context: Any = None,
        status: str = "completed",
        error: Optional[Exception] = None,
    ) -> None:
        self._tell(self._recorder.routine_ended, routine_id, worker_state, job_context, status, error)
        self.before.on_routine_end(routine_id, worker_state, job_context, status, error)

    def on_event_emit(
        self, event: Any, source_routine_id: str, worker_state: Any, job_context: Any = None, data: Any = None
    ) -> bool:
        self._tell(self._recorder.event_emitted, event, source_routine_id, worker_state, job_context, data)
        return self.before.on_event_emit(event, source_routine_id, worker_state, job_context, data)

    def on_slot_before_enqueue(
        self, slot: Any, routine_id: str, job_context: Any, data: Any, flow_id: str
    ) -> tuple[bool, Optional[str]]:
        answer = self.before.on_slot_before_enqueue(
            slot=slot, routine_id=routine_id, job_context=job_context, data=data, flow_id=flow_id
        )
        self._tell(self._slot_answered, answer, slot, routine_id, job_context, data, flow_id)
        return answer

    def _slot_answered(
        self, answer: tuple[bool, Optional[str]], slot: Any, routine_id: str, job_context: Any, data: Any, flow_id: str
    ) -> None:
        should_enqueue, reason = answer
        if should_enqueue:
            self._recorder.slot_filled(slot, routine_id, job_context, data, flow_id)
        else:
            self._recorder.slot_withheld(slot, routine_id, job_context, data, flow_id, reason)

    def _tell(self, note: Callable[..., None], *told: object) -> None:
        if self.is_active:
            try:
                note(*told)
            except Exception:
                self._recorder.publisher.count_fault()
