"""A real flow of Routilux whose routines write down themselves what they do: `source` to `middle` to `sink`."""

from __future__ import annotations

import contextvars
import itertools
import threading
from typing import Any, Optional

from routilux import Flow, Routine, Runtime
from routilux.core import FlowRegistry

from waiting import PATIENCE, wait_until

_numbers = itertools.count()


class Record:
    """What happened, by the routines' own account. Lists, as appending to them is safe in all threads."""

    def __init__(self) -> None:
        self.emitted: list[tuple[str, dict[str, Any]]] = []
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.failed: list[tuple[str, str]] = []

    def of(self, routine_id: str) -> list[dict[str, Any]]:
        return [data for routine, data in self.got if routine == routine_id]


def _when_there_is_data(slots: dict[str, Any], worker_state: Any) -> tuple[bool, dict[str, list[Any]], None]:
    data = {name: slot.consume_all_new() for name, slot in slots.items()}
    return any(data.values()), data, None


class _Step(Routine):
    """Sends on what it gets: `count` pieces each, and fails at the piece whose `n` is `fails_at`."""

    def __init__(self, name: str, flow: RecordedFlow, count: int, fails_at: Optional[int]) -> None:
        super().__init__()
        self._name, self._flow, self._count, self._fails_at = name, flow, count, fails_at
        self._record = flow.record
        self.add_slot("input")
        self.add_event("output")
        self.set_activation_policy(_when_there_is_data)
        self.set_logic(self._work)

    def _work(self, pieces: list[dict[str, Any]], policy_message: object, worker_state: Any) -> None:
        for piece in pieces:
            self._record.got.append((self._name, piece))
            for name, goes_on in self._flow.waits_for.items():
                if name in piece:
                    goes_on.wait(PATIENCE)
            if self._name == self._flow.keeps_context_of:
                self._flow.contexts.append(contextvars.copy_context())
            if piece["n"] == self._fails_at:
                self._record.failed.append((self._name, "no seven"))
                raise ValueError("no seven")
            for n in range(self._count):
                data = {"n": piece["n"] + n, "by": self._name}
                self._record.emitted.append((self._name, data))
                self.emit("output", worker_state=worker_state, **data)


class RecordedFlow:
    """One flow and an engine of its own."""

    def __init__(
        self,
        fails: Optional[str] = None,
        flow_id: Optional[str] = None,
        timeout: Optional[float] = None,
        runtime: Optional[Runtime] = None,
    ) -> None:
        self.record = Record()
        self.waits_for: dict[str, threading.Event] = {}
        """A routine that gets a piece with such a member waits for this."""
        self.keeps_context_of: Optional[str] = None
        self.contexts: list[contextvars.Context] = []
        self.flow_id = flow_id or f"flow-{next(_numbers)}"
        flow = Flow(self.flow_id, execution_timeout=timeout)
        for name, count in (("source", 5), ("middle", 1), ("sink", 0)):
            flow.add_routine(_Step(name, self, count, 7 if name == fails else None), name)
        flow.connect("source", "output", "middle", "input")
        flow.connect("middle", "output", "sink", "input")
        FlowRegistry.get_instance().register_by_name(self.flow_id, flow)
        self._source = flow.routines["source"]
        self._workers: list[Any] = []
        self.runtime = runtime or Runtime(thread_pool_size=4)

    def post(self, job_id: str, n: int) -> None:
        worker, _ = self.runtime.post(self.flow_id, "source", "input", {"n": n}, job_id=job_id)
        self._workers.append(worker)

    def wait_until_idle(self) -> None:
        """Until the engine is done with all that was posted and with what came of it."""
        queues = [worker._executor.task_queue for worker in self._workers]
        wait_until(lambda: all(queue.unfinished_tasks == 0 for queue in queues), "the engine is idle")

    def emit_from_source(self, worker: Any) -> None:
        """In a context that was kept, as a thread of a routine's own may do."""
        self._source.emit("output", worker_state=worker, n=99, by="source")

    def close(self) -> None:
        self.runtime.shutdown(wait=True)
