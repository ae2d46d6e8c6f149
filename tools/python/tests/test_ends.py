"""Jobs that nobody ends, and how they end."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any, Optional

import pytest
from routilux import Runtime
from routilux.core.context import get_current_job
from routilux.core.hooks import reset_execution_hooks

import luxcast.routilux
from daemon import Daemon, Message
from flow import RecordedFlow
from luxcast import Publisher
from luxcast.routilux.engine import Job
from luxcast.routilux.jobs import Jobs, KnownJob
from waiting import PATIENCE, wait_until

_ENDS = ("job_completed", "job_failed", "job_cancelled")


@pytest.fixture(autouse=True)
def _engine_without_hooks() -> Iterator[None]:
    yield
    luxcast.routilux.uninstall(0)
    reset_execution_hooks()


def _install(daemon: Daemon, idle_seconds: Optional[float] = 0.2) -> luxcast.routilux.Installation:
    return luxcast.routilux.install(path=daemon.path, idle_seconds=idle_seconds)


def _ends(events: list[Message]) -> list[Message]:
    return [event for event in events if event["type"] in _ENDS]


def _watch(daemon: Daemon, flow: RecordedFlow, ends: int = 1) -> list[Message]:
    with daemon.watch(f"flows/{flow.flow_id}/monitor") as watcher:
        wait_until(lambda: len(_ends(watcher.events)) >= ends, "the job has ended")
        return list(watcher.events)


def _status(daemon: Daemon, job: str) -> Any:
    """As the daemon has it."""
    with daemon.watch(f"jobs/{job}/monitor", since="-1000") as watcher:
        wait_until(lambda: bool(_ends(watcher.events)), "its end is there")
        return _ends(watcher.events)[-1]["type"]


def test_a_job_that_nobody_ends_is_completed_when_nothing_is_left_to_do(daemon: Daemon) -> None:
    installation = _install(daemon)
    flow = RecordedFlow()
    flow.post("job-1", 10)
    events = _watch(daemon, flow)
    assert len(flow.record.of("sink")) == 5, "all was done"
    end = events[-1]
    assert end["type"] == "job_completed" and end["data"]["total_events"] == len(events)
    others = [event["timestamp"] for event in events[:-1]]
    assert max(others) <= end["timestamp"], "it ended when the last of it was done"
    assert 0 <= end["data"]["duration"] < PATIENCE
    assert installation.publisher.stats().faults == 0
    flow.close()


def test_a_job_of_which_a_routine_failed_has_failed(daemon: Daemon) -> None:
    _install(daemon)
    flow = RecordedFlow(fails="middle")
    flow.post("job-1", 5)
    end = _watch(daemon, flow)[-1]
    assert end["type"] == "job_failed"
    assert end["data"] == {"error": "ValueError: no seven", "error_type": "ValueError", "routine_id": "middle"}
    flow.close()


def test_a_job_that_no_routine_was_given_has_failed(daemon: Daemon) -> None:
    _install(daemon)
    flow = RecordedFlow()
    with pytest.raises(ValueError, match="not found"):
        flow.runtime.post(flow.flow_id, "nobody", "input", {}, job_id="job-1")
    end = _watch(daemon, flow)[-1]
    assert end["type"] == "job_failed"
    assert end["data"]["error"] == "no routine was given any work"
    flow.close()


def test_jobs_of_one_worker_end_each_for_itself(daemon: Daemon) -> None:
    """Though the worker as a whole is never idle."""
    _install(daemon)
    flow = RecordedFlow()
    goes_on = threading.Event()
    flow.waits_for["stuck"] = goes_on
    worker, _ = flow.runtime.post(flow.flow_id, "source", "input", {"n": 0}, job_id="first")
    flow.runtime.post(flow.flow_id, "source", "input", {"n": 0, "stuck": 1}, worker.worker_id, "second")
    events = _watch(daemon, flow)
    assert [event["job_id"] for event in _ends(events)] == ["first"]
    goes_on.set()
    events = _watch(daemon, flow, ends=2)
    assert [(event["job_id"], event["type"]) for event in _ends(events)] == [
        ("first", "job_completed"),
        ("second", "job_completed"),
    ]
    flow.close()


def test_a_job_whose_worker_was_stopped_was_cancelled(daemon: Daemon) -> None:
    _install(daemon)
    flow = RecordedFlow()
    goes_on = threading.Event()
    flow.waits_for["stuck"] = goes_on
    worker, _ = flow.runtime.post(flow.flow_id, "source", "input", {"n": 0, "stuck": 1}, job_id="job-1")
    worker._executor.cancel("enough")
    end = _watch(daemon, flow)[-1]
    assert (end["type"], end["data"]["reason"]) == ("job_cancelled", "its worker was stopped")
    goes_on.set()
    flow.close()


def test_a_job_whose_worker_ran_out_of_time_has_failed(daemon: Daemon) -> None:
    _install(daemon)
    flow = RecordedFlow(timeout=0.3)
    goes_on = threading.Event()
    flow.waits_for["stuck"] = goes_on
    flow.runtime.post(flow.flow_id, "source", "input", {"n": 0, "stuck": 1}, job_id="job-1")
    end = _watch(daemon, flow)[-1]
    assert (end["type"], end["data"]["error"]) == ("job_failed", "Execution timed out")
    goes_on.set()
    flow.close()


def test_a_paused_job_does_not_end(daemon: Daemon) -> None:
    _install(daemon)
    flow = RecordedFlow()
    worker = flow.runtime.exec(flow.flow_id)
    worker._executor.pause("wait")
    flow.runtime.post(flow.flow_id, "source", "input", {"n": 0}, worker.worker_id, "paused")
    other = RecordedFlow()
    other.post("other", 1)
    _watch(daemon, other)
    with daemon.watch(f"flows/{flow.flow_id}/monitor") as watcher:
        watcher.wait_for(1)
        assert _ends(watcher.events) == []
    worker._executor.resume()
    assert _watch(daemon, flow)[-1]["type"] == "job_completed"
    other.close()
    flow.close()


def test_the_engine_has_the_last_word_and_nothing_is_said_twice(daemon: Daemon) -> None:
    _install(daemon)
    flow = RecordedFlow(fails="source")
    for job, n in (("agreed", 1), ("wrong", 1), ("known", 7), ("explained", 7)):
        flow.post(job, n)
    _watch(daemon, flow, ends=4)
    flow.runtime.complete_job("agreed")
    flow.runtime.complete_job("wrong", "failed", "it was wrong after all")
    flow.runtime.complete_job("known", "failed")
    flow.runtime.complete_job("explained", "failed", "seven is not wanted")
    flow.post("last", 1)
    ends = _ends(_watch(daemon, flow, ends=7))
    told: dict[str, list[tuple[str, object]]] = {}
    for end in ends:
        told.setdefault(end["job_id"], []).append((end["type"], end["data"].get("error")))
    failed, completed = ("job_failed", "ValueError: no seven"), ("job_completed", None)
    assert told == {
        "agreed": [completed],
        "wrong": [completed, ("job_failed", "it was wrong after all")],
        "known": [failed],
        "explained": [failed, ("job_failed", "seven is not wanted")],
        "last": [completed],
    }
    flow.close()


def test_whoever_ends_his_jobs_himself_may_have_it_so(daemon: Daemon) -> None:
    _install(daemon, idle_seconds=None)
    flow = RecordedFlow()
    flow.post("job-1", 1)
    flow.wait_until_idle()
    assert not any(thread.name == "luxcast-ends" for thread in threading.enumerate())
    flow.runtime.complete_job("job-1", "cancelled", "so")
    events = _watch(daemon, flow)
    assert [(end["type"], end["data"]) for end in _ends(events)] == [("job_cancelled", {"reason": "so"})]
    flow.close()


def test_a_job_that_goes_on_after_its_end_ends_again(daemon: Daemon) -> None:
    _install(daemon)
    flow = RecordedFlow()
    flow.keeps_context_of = "source"
    flow.post("job-1", 1)
    _watch(daemon, flow)
    contexts: list[contextvars.Context] = flow.contexts
    worker = flow._workers[0]
    contexts[0].run(flow.emit_from_source, worker)
    ends = _ends(_watch(daemon, flow, ends=2))
    assert [end["type"] for end in ends] == ["job_completed", "job_completed"]
    assert ends[0]["data"]["total_events"] < ends[1]["data"]["total_events"]
    assert get_current_job() is None
    flow.close()


def test_a_runtime_of_ones_own_is_seen_too(daemon: Daemon) -> None:
    class Own(Runtime):
        def handle_event_emit(self, *told: Any, **named: Any) -> None:
            super().handle_event_emit(*told, **named)

    _install(daemon)
    flow = RecordedFlow(runtime=Own(thread_pool_size=2))
    flow.post("job-1", 1)
    assert _watch(daemon, flow)[-1]["type"] == "job_completed"
    flow.close()


def test_what_was_uninstalled_says_nothing_at_the_end_of_the_process(daemon: Daemon) -> None:
    flow = RecordedFlow()
    with Publisher(daemon.path) as publisher:
        luxcast.routilux.install(publisher)
        worker = flow.runtime.exec(flow.flow_id)
        worker._executor.pause("wait")
        flow.runtime.post(flow.flow_id, "source", "input", {"n": 0}, worker.worker_id, "job-1")
        luxcast.routilux.uninstall()
        publisher.close_at_exit()
        assert publisher.stats().delivered == 1, "its start, and nothing more"
    flow.close()


def test_of_many_jobs_each_ends_once(daemon: Daemon) -> None:
    installation = _install(daemon, idle_seconds=0.05)
    flow = RecordedFlow(fails="sink")
    worker = flow.runtime.exec(flow.flow_id)
    jobs = [f"job-{n}" for n in range(300)]
    for n, job in enumerate(jobs):
        flow.runtime.post(flow.flow_id, "source", "input", {"n": 5 if n % 3 else 50}, worker.worker_id, job)
    ends = _ends(_watch(daemon, flow, ends=len(jobs)))
    assert sorted(end["job_id"] for end in ends) == sorted(jobs)
    assert sum(end["type"] == "job_failed" for end in ends) > 0
    luxcast.routilux.uninstall(PATIENCE)
    stats = installation.publisher.stats()
    assert stats.faults == stats.sender_faults == stats.refused == 0
    assert len(_ends(_watch(daemon, flow, ends=len(jobs)))) == len(jobs)
    flow.close()


def test_uninstall_ends_what_is_over(daemon: Daemon) -> None:
    _install(daemon, idle_seconds=600)
    flow = RecordedFlow()
    flow.post("job-1", 1)
    flow.wait_until_idle()
    luxcast.routilux.uninstall(PATIENCE)
    assert _watch(daemon, flow)[-1]["type"] == "job_completed"
    flow.close()


def test_uninstall_waits_for_what_is_just_about_to_be_over(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luxcast.routilux.recorder.GRACE_SECONDS", PATIENCE)
    _install(daemon, idle_seconds=600)
    flow = RecordedFlow()
    goes_on = threading.Event()
    flow.waits_for["last"] = goes_on
    flow.runtime.post(flow.flow_id, "source", "input", {"n": 0, "last": 1}, job_id="job-1")
    threading.Timer(0.1, goes_on.set).start()
    luxcast.routilux.uninstall(PATIENCE)
    end = _watch(daemon, flow)[-1]
    assert end["type"] == "job_completed" and len(flow.record.of("sink")) == 5
    flow.close()


_PROGRAM = """
import sys, threading, time
sys.path.insert(0, sys.argv[1])
import luxcast.routilux
from flow import RecordedFlow
luxcast.routilux.install(idle_seconds=600)
flow = RecordedFlow(flow_id="flow")
flow.waits_for["stuck"] = threading.Event()
flow.post("done", 1)
flow.wait_until_idle()
if sys.argv[2] == "stuck":
    worker = flow.runtime.exec("flow")
    worker._executor.pause("wait")
    flow.runtime.post("flow", "source", "input", {"n": 0}, worker.worker_id, "stuck")
"""


@pytest.mark.parametrize("how", ["done", "stuck"])
def test_the_end_of_the_process_is_the_end_of_its_jobs(daemon: Daemon, how: str) -> None:
    subprocess.run(
        [sys.executable, "-c", _PROGRAM, os.path.dirname(__file__), how],
        env={**os.environ, "LUXCAST_INGEST": daemon.path},
        check=True,
        timeout=PATIENCE,
    )
    assert _status(daemon, "done") == "job_completed"
    if how == "stuck":
        assert _status(daemon, "stuck") == "job_cancelled"


_FORKING = """
import os, sys
sys.path.insert(0, sys.argv[1])
import luxcast.routilux
from flow import RecordedFlow
luxcast.routilux.install(idle_seconds=600)
flow = RecordedFlow(flow_id="parent")
flow.post("before", 0)
flow.wait_until_idle()
worker = flow.runtime.exec("parent")
worker._executor.pause("wait")
flow.runtime.post("parent", "source", "input", {"n": 0}, worker.worker_id, "during")
flow._workers.append(worker)
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
worker._executor.resume()
flow.wait_until_idle()
"""


def test_a_forked_child_does_not_end_the_jobs_of_its_parent(daemon: Daemon) -> None:
    subprocess.run(
        [sys.executable, "-c", _FORKING, os.path.dirname(__file__)],
        env={**os.environ, "LUXCAST_INGEST": daemon.path},
        check=True,
        timeout=PATIENCE,
    )
    with daemon.watch("flows/parent/monitor") as watcher:
        wait_until(lambda: len(_ends(watcher.events)) >= 2, "both have ended")
        ends = sorted((event["job_id"], event["type"]) for event in _ends(watcher.events))
    assert ends == [("before", "job_completed"), ("during", "job_completed")]


class _Job:
    def __init__(self, job_id: str, worker_id: str) -> None:
        self.job_id, self.worker_id, self.flow_id, self.status = job_id, worker_id, "f", "running"
        self.error: Any = None
        self.created_at: Any = None
        self.completed_at: Any = None


def _known(job_id: str, worker_id: str = "w") -> KnownJob:
    job: Job = _Job(job_id, worker_id)
    return KnownJob(job, None, None)


def test_what_is_remembered_of_jobs_is_bounded() -> None:
    jobs = Jobs(jobs_max=3, over_max=2)
    known = [_known(str(n), f"w{n % 2}") for n in range(6)]
    for job in known:
        jobs.begin(job)
    assert [job.job.job_id for job in jobs.all()] == ["3", "4", "5"]
    assert [[job.job.job_id for job in jobs.of_worker(f"w{n}")] for n in (0, 1)] == [["4"], ["3", "5"]]
    assert all(jobs.take(job) for job in known[3:]) and not jobs.take(known[4])
    assert jobs.of_worker("w0") == jobs.of_worker("w1") == jobs.all() == []
    assert jobs.end("3") is None, "forgotten"
    assert jobs.end("5") is known[5]
    assert jobs._of_workers == {}


def test_a_job_posted_once_more_under_its_id_ends_when_both_are_done() -> None:
    jobs = Jobs()
    first, second = _known("j"), _known("j")
    jobs.begin(first)
    first.queue_task()
    jobs.begin(second)
    second.queue_task()
    assert not second.finish_task() and second.finish_task() and second.is_idle
    assert not jobs.take(first) and jobs.take(second)
    assert not second.finish_task(), "one more than there were is nothing"
