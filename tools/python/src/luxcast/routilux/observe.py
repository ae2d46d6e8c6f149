"""What Routilux 1.1.0 does not report to its hooks, observed by replacing some of its functions.

Each replacement calls the engine's own function, whatever fails here, and returns its result.
"""

from __future__ import annotations

import importlib
import sys
from types import FrameType
from typing import Any, Callable, Optional

from luxcast.routilux.patch import Patch
from luxcast.routilux.recorder import Recorder, SlotRun

FRAMES_MAX = 4
"""How far up the stack the event loop is searched for."""


class Observer:
    """Observes every run of a routine, and every task that the engine has of a job."""

    def __init__(self, recorder: Recorder) -> None:
        self.is_active = True
        self._recorder = recorder
        runtime = importlib.import_module("routilux.core.runtime").Runtime
        executor = importlib.import_module("routilux.core.executor").WorkerExecutor
        self._current_job = importlib.import_module("routilux.core.context").get_current_job
        tasks = [
            Patch(executor, "enqueue_task", self._enqueue_task),
            Patch(executor, "_execute_task", self._execute_task),
            Patch(runtime, "handle_event_emit", self._handle_event_emit),
        ]
        self.sees_tasks = all(patch.is_in_place for patch in tasks)
        """Without one of these it is unknown whether a job is over."""
        runs = Patch(runtime, "_check_routine_activation", self._check_routine_activation)
        self.sees_runs = runs.is_in_place
        self._patches = [*tasks, runs]

    def remove(self) -> None:
        self.is_active = False
        for patch in self._patches:
            patch.undo()

    def _tell(self, note: Callable[..., None], *told: object) -> None:
        if self.is_active:
            try:
                note(*told)
            except Exception:
                self._recorder.publisher.count_fault()

    def _enqueue_task(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def enqueue_task(executor: Any, task: Any) -> Any:
            # Before the call, as the task may be done at once.
            self._tell(self._recorder.task_queued, getattr(task, "job_context", None))
            return original(executor, task)

        return enqueue_task

    def _execute_task(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def execute_task(executor: Any, task: Any) -> Any:
            try:
                return original(executor, task)
            finally:
                self._tell(self._recorder.task_done, getattr(task, "job_context", None))

        return execute_task

    def _handle_event_emit(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def handle_event_emit(runtime: Any, event: Any, event_data: Any, worker_state: Any) -> Any:
            # Called from elsewhere, it is not a task.
            job = self._current_job() if _is_in_event_loop(sys._getframe(1)) else None
            try:
                return original(runtime, event, event_data, worker_state)
            finally:
                self._tell(self._recorder.task_done, job)

        return handle_event_emit

    def _check_routine_activation(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """When the engine runs the routine of a slot that an event filled, it passes no name and calls no hook."""

        def check_routine_activation(runtime: Any, routine: Any, worker_state: Any) -> Any:
            return original(runtime, self._observed(routine), worker_state)

        return check_routine_activation

    def _observed(self, routine: Any) -> Any:
        try:
            run = self._recorder.run_of(routine) if self.is_active else None
            return routine if run is None else _Observed(routine, run)
        except Exception:
            self._recorder.publisher.count_fault()
            return routine


def _is_in_event_loop(frame: Optional[FrameType]) -> bool:
    """Whether that was the caller, also by way of a subclass of the runtime."""
    for _ in range(FRAMES_MAX):
        if frame is None or frame.f_code.co_name == "_event_loop":
            break
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "_event_loop"


class _Observed:
    """Replaces a routine while the engine finds out whether it is to run, and runs it."""

    def __init__(self, routine: Any, run: SlotRun) -> None:
        self._routine = routine
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._routine, name)

    @property
    def _logic(self) -> Any:
        logic = getattr(self._routine, "_logic", None) or getattr(self._routine, "logic", None)
        return self._run.of(logic) if callable(logic) else None
