"""The parts of the engine's objects that are read here."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Optional, Protocol


class Job(Protocol):
    """`JobContext`."""

    job_id: str
    worker_id: str
    flow_id: str
    status: str
    error: Optional[str]
    created_at: datetime
    completed_at: Optional[datetime]


class Named(Protocol):
    """`Event`, and `Slot` where only its name matters."""

    name: str


class SlotOfRoutine(Named, Protocol):
    """`Slot`."""

    routine: object


class Worker(Protocol):
    """`WorkerState`."""

    worker_id: str
    flow_id: str


class HooksBefore(Protocol):
    """The hooks that were there before ours."""

    def on_worker_start(self, flow: Any, worker_state: Any) -> None: ...

    def on_worker_stop(self, flow: Any, worker_state: Any, status: str) -> None: ...

    def on_job_start(self, job_context: Any, worker_state: Any) -> None: ...

    def on_job_end(self, job_context: Any, worker_state: Any, status: str, error: Optional[Exception]) -> None: ...

    def on_routine_start(self, routine_id: str, worker_state: Any, job_context: Any) -> bool: ...

    def on_routine_end(
        self, routine_id: str, worker_state: Any, job_context: Any, status: str, error: Optional[Exception]
    ) -> None: ...

    def on_event_emit(
        self, event: Any, source_routine_id: str, worker_state: Any, job_context: Any, data: Any
    ) -> bool: ...

    def on_slot_before_enqueue(
        self, slot: Any, routine_id: str, job_context: Any, data: Any, flow_id: str
    ) -> tuple[bool, Optional[str]]: ...
