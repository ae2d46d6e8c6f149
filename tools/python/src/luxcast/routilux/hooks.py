"""The hooks that the engine calls: each asks the earlier hooks, and reports to the recorder.

Parameters have the engine's names, since it calls `on_slot_before_enqueue` with keywords. With another name the call
would fail, the engine would only log that, and flows would stop.
"""

from __future__ import annotations

import threading
from typing import Any, Callable, Optional

from luxcast.routilux.engine import HooksBefore
from luxcast.routilux.patch import Patch
from luxcast.routilux.recorder import Recorder


class Hooks:
    """Returns what the earlier hooks return, raises what they raise, and nothing else."""

    def __init__(self, recorder: Recorder, before: HooksBefore) -> None:
        self.before = before
        self.is_active = True
        self.recorder = recorder

    def __getattr__(self, name: str) -> Any:
        """Hooks of a newer engine go to the earlier hooks."""
        return getattr(self.__dict__["before"], name)

    def on_worker_start(self, flow: Any, worker_state: Any) -> None:
        self.before.on_worker_start(flow, worker_state)

    def on_worker_stop(self, flow: Any, worker_state: Any, status: str) -> None:
        self._tell(self.recorder.worker_stopped, worker_state, status)
        self.before.on_worker_stop(flow, worker_state, status)

    def on_job_start(self, job_context: Any, worker_state: Any) -> None:
        self._tell(self.recorder.job_started, job_context)
        self.before.on_job_start(job_context, worker_state)

    def on_job_end(
        self, job_context: Any, worker_state: Any, status: str = "completed", error: Optional[Exception] = None
    ) -> None:
        self._tell(self.recorder.job_ended, job_context, status, error)
        self.before.on_job_end(job_context, worker_state, status, error)

    def on_routine_start(self, routine_id: str, worker_state: Any, job_context: Any = None) -> bool:
        answer = self.before.on_routine_start(routine_id, worker_state, job_context)
        if answer:
            self._tell(self.recorder.routine_started, routine_id, worker_state, job_context)
        return answer

    def on_routine_end(
        self,
        routine_id: str,
        worker_state: Any,
        job_context: Any = None,
        status: str = "completed",
        error: Optional[Exception] = None,
    ) -> None:
        self._tell(self.recorder.routine_ended, routine_id, worker_state, job_context, status, error)
        self.before.on_routine_end(routine_id, worker_state, job_context, status, error)

    def on_event_emit(
        self, event: Any, source_routine_id: str, worker_state: Any, job_context: Any = None, data: Any = None
    ) -> bool:
        self._tell(self.recorder.event_emitted, event, source_routine_id, worker_state, job_context, data)
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
            self.recorder.slot_filled(slot, routine_id, job_context, data, flow_id)
        else:
            self.recorder.slot_withheld(slot, routine_id, job_context, data, flow_id, reason)

    def _tell(self, note: Callable[..., None], *told: object) -> None:
        if self.is_active:
            try:
                note(*told)
            except Exception:
                self.recorder.publisher.count_fault()


class Front:
    """Keeps our hooks before all other hooks of the engine. `MonitoringRegistry.enable()` replaces hooks, and
    Routilux's server calls it after it has loaded the routines, which may have called `install`."""

    def __init__(self, module: Any, recorder: Recorder) -> None:
        """`module` is `routilux.core.hooks`."""
        self._module = module
        self._recorder = recorder
        self._moving = threading.Lock()
        self._get_others = module.get_execution_hooks
        # So that a check finds an instance of the engine's interface, without a dependency on it here.
        module.ExecutionHooksInterface.register(Hooks)
        self._hooks = Hooks(recorder, self._get_others())
        # If other code has a copy of the original function, at least these hooks are found.
        module.set_execution_hooks(self._hooks)
        self._patch = Patch(module, "get_execution_hooks", self._get_execution_hooks)

    @property
    def is_in_place(self) -> bool:
        return self._module.get_execution_hooks() is self._hooks

    def get(self) -> Any:
        """What the engine asks for before each call: our hooks, before those set at this moment."""
        others = self._get_others()
        hooks = self._hooks
        if others is hooks or others is hooks.before:
            return hooks
        return self._move(others)

    def remove(self) -> None:
        """If other hooks were put over ours, those stay, and ours only pass on."""
        self._hooks.is_active = False
        self._patch.undo()
        others = self._get_others()
        if self._is_ours(others):
            self._module.set_execution_hooks(self._behind(others))

    def begin_anew(self) -> None:
        """In a forked child: the parent may have been in the middle of a change."""
        self._moving = threading.Lock()

    def _get_execution_hooks(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_execution_hooks() -> Any:
            return self.get()

        return get_execution_hooks

    def _move(self, others: Any) -> Any:
        with self._moving:
            before = self._behind(others)
            if self._hooks.before is not before:
                # The old ones may be called by other hooks that were put over them.
                hooks = Hooks(self._recorder, before)
                hooks.is_active = self._hooks.is_active
                self._hooks.is_active = False
                self._hooks = hooks
            return self._hooks

    def _behind(self, others: Any) -> Any:
        while self._is_ours(others):
            others = others.before
        return others

    def _is_ours(self, hooks: Any) -> bool:
        return isinstance(hooks, Hooks) and hooks.recorder is self._recorder
