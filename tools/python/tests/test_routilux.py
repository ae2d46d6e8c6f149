"""The real engine beside the real daemon: what watchers see is what the flow's own routines wrote down."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import routilux.core.hooks
from routilux import Runtime
from routilux.core.executor import WorkerExecutor
from routilux.core.hooks import (
    ExecutionHooksInterface,
    NullExecutionHooks,
    get_execution_hooks,
    reset_execution_hooks,
    set_execution_hooks,
)
from routilux.monitoring.breakpoint_manager import Breakpoint
from routilux.monitoring.registry import MonitoringRegistry

import luxcast.routilux
from daemon import Daemon, Message
from flow import RecordedFlow
from luxcast.head import what_is_wrong
from luxcast.routilux.hooks import Hooks
from waiting import wait_until

_MEMBERS = {
    "job_started": {"data": {"entry_routine", "params"}},
    "job_completed": {"data": {"duration", "total_events"}},
    "job_failed": {"data": {"error", "error_type", "routine_id"}},
    "job_cancelled": {"data": {"reason"}},
    "routine_started": {"data": {"slot_name"}},
    "routine_completed": {"data": {"duration"}},
    "routine_failed": {"data": {"error", "error_type", "slot_name"}},
    "breakpoint_hit": {
        "breakpoint": {"breakpoint_id", "type", "routine_id", "slot_name", "event_name"},
        "context": {"routine_id", "variables"},
    },
    "execution_event": {"event": {"event_id", "routine_id", "event_type", "timestamp", "data"}},
}
"""Of each type, its members that are objects, and their members, as the protocol has them."""


_RUNS = ("routine_started", "routine_completed", "routine_failed")


@pytest.fixture(autouse=True)
def _engine_without_hooks() -> Iterator[None]:
    yield
    luxcast.routilux.uninstall()
    MonitoringRegistry.disable()
    reset_execution_hooks()


def _run_job(daemon: Daemon) -> tuple[RecordedFlow, list[Message]]:
    """Runs one job to its end. Returns its flow and what watchers saw, which is as documented."""
    flow = RecordedFlow()
    flow.post("job-1", 10)
    flow.wait_until_idle()
    flow.runtime.complete_job("job-1")
    events = _watch(daemon, flow)
    flow.close()
    _assert_documented(events, flow)
    return flow, events


def _watch(daemon: Daemon, flow: RecordedFlow, last: int = 1) -> list[Message]:
    """All events of the flow up to the end of so many jobs."""
    ends = ("job_completed", "job_failed", "job_cancelled")
    with daemon.watch(f"flows/{flow.flow_id}/monitor") as watcher:
        wait_until(lambda: sum(event["type"] in ends for event in watcher.events) >= last, "the job has ended")
        assert watcher.gaps == []
        return list(watcher.events)


def _assert_documented(events: list[Message], flow: RecordedFlow) -> None:
    for event in events:
        assert event["flow_id"] == flow.flow_id and event["job_id"] and event["timestamp"].endswith("Z")
        objects = {name: set(value) for name, value in event.items() if isinstance(value, dict)}
        assert objects == _MEMBERS[event["type"]], event["type"]
        assert ("routine_id" in event) == event["type"].startswith("routine_")


def _inner(events: list[Message], kind: str) -> list[tuple[str, Any]]:
    """Routine and data of the execution events of this kind."""
    inner = (event["event"] for event in events if event["type"] == "execution_event")
    member = {"event_emit": "data", "slot_call": "arguments"}
    return [(event["routine_id"], event["data"][member[kind]]) for event in inner if event["event_type"] == kind]


def _of(events: list[Message], *kinds: str) -> list[Message]:
    return [event for event in events if event["type"] in kinds]


def _sorted(pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    return sorted(pairs, key=str)


def _assert_as_recorded(events: list[Message], flow: RecordedFlow) -> None:
    """Everything that was emitted and every slot that was filled; each routine's own in its order."""
    for kind, own in (("event_emit", flow.record.emitted), ("slot_call", flow.record.got)):
        # Data that is posted from outside fills a slot without the engine's telling hooks of it.
        own = [(routine, data) for routine, data in own if kind == "event_emit" or routine != "source"]
        seen = _inner(events, kind)
        assert _sorted(seen) == _sorted(own)
        for routine in ("source", "middle", "sink"):
            assert [data for name, data in seen if name == routine] == [data for name, data in own if name == routine]
    assert [(event["routine_id"], event["data"]["error"]) for event in _of(events, "routine_failed")] == [
        (routine, f"ValueError: {text}") for routine, text in flow.record.failed
    ]


@pytest.mark.parametrize(("is_monitoring", "is_http"), [(False, False), (True, False), (False, True)])
def test_watchers_see_what_a_flow_did(daemon: Daemon, is_monitoring: bool, is_http: bool) -> None:
    if is_monitoring:
        MonitoringRegistry.enable()
    installation = luxcast.routilux.install(path=daemon.address if is_http else daemon.path)
    flow, events = _run_job(daemon)
    _assert_as_recorded(events, flow)
    assert flow.record.of("sink") == [{"n": n, "by": "middle"} for n in range(10, 15)]
    (started,) = _of(events, "job_started")
    assert events[0] == started and started["data"] == {"entry_routine": "source", "params": {"n": 10}}
    for routine in ("source", "middle", "sink"):
        runs = [event["type"] for event in _of(events, *_RUNS) if event["routine_id"] == routine]
        assert runs == ["routine_started", "routine_completed"] * len(flow.record.of(routine)), "each run has its span"
    assert all(event["data"].get("slot_name", "input") == "input" for event in _of(events, *_RUNS))
    assert all(event["data"]["duration"] >= 0 for event in _of(events, "routine_completed"))
    assert events[-1]["type"] == "job_completed" and events[-1]["data"]["total_events"] == len(events)
    assert installation.publisher.stats().faults == 0


def _samples() -> list[str]:
    """Those of the papers that install the hooks."""
    tools = Path(__file__).resolve().parents[2]
    papers = [tools.parent / "README.md", tools / "python" / "README.md"]
    found = [sample for paper in papers for sample in re.findall(r"```python\n(.*?)```", paper.read_text(), re.DOTALL)]
    return [sample for sample in found if "import luxcast.routilux" in sample]


@pytest.mark.parametrize("sample", _samples())
def test_the_lines_in_the_papers_are_enough(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, sample: str) -> None:
    monkeypatch.setenv("LUXCAST_INGEST", daemon.path)
    monkeypatch.setenv("LUXCAST_TOKEN", "of-a-daemon-that-asks-for-none")
    exec(sample.replace("/tmp/luxcast.sock", daemon.path).replace("http://127.0.0.1:20555", daemon.address), {})
    flow, events = _run_job(daemon)


def test_the_papers_have_such_lines() -> None:
    assert len(_samples()) == 3


def test_jobs_at_once_are_told_apart(daemon: Daemon) -> None:
    luxcast.routilux.install(path=daemon.path)
    flow = RecordedFlow()
    jobs = [f"job-{n}" for n in range(8)]
    for n, job in enumerate(jobs):
        flow.post(job, 100 * n)
    flow.wait_until_idle()
    for job in jobs:
        flow.runtime.complete_job(job)
    events = _watch(daemon, flow, last=len(jobs))
    flow.close()
    _assert_documented(events, flow)
    assert _sorted(_inner(events, "event_emit")) == _sorted(flow.record.emitted)
    for n, job in enumerate(jobs):
        own = [event for event in events if event["job_id"] == job]
        assert (own[0]["type"], own[-1]["type"]) == ("job_started", "job_completed")
        filled = [data["n"] for routine, data in _inner(own, "slot_call") if routine == "sink"]
        assert filled == list(range(100 * n, 100 * n + 5))


@pytest.mark.parametrize("routine", ["source", "middle", "sink"])
def test_a_failure_of_any_routine_is_seen(daemon: Daemon, routine: str) -> None:
    luxcast.routilux.install(path=daemon.path)
    flow = RecordedFlow(fails=routine)
    flow.post("job-1", 7 if routine == "source" else 5)
    flow.wait_until_idle()
    flow.runtime.complete_job("job-1", "failed", "no seven")
    events = _watch(daemon, flow)
    flow.close()
    _assert_documented(events, flow)
    _assert_as_recorded(events, flow)
    assert flow.record.failed == [(routine, "no seven")]
    (failed,) = _of(events, "routine_failed")
    runs = [event["type"] for event in _of(events, *_RUNS) if event["routine_id"] == routine]
    assert runs.count("routine_started") == len(flow.record.of(routine)), "also of the run that failed"
    assert runs[runs.index("routine_failed") - 1] == "routine_started"
    assert (failed["data"]["error_type"], failed["data"]["slot_name"]) == ("ValueError", "input")
    assert events[-1]["type"] == "job_failed"
    assert events[-1]["data"] == {"error": "no seven", "error_type": "ValueError", "routine_id": routine}


def test_a_cancelled_job_says_why(daemon: Daemon) -> None:
    luxcast.routilux.install(path=daemon.path)
    flow = RecordedFlow()
    flow.post("job-1", 1)
    flow.wait_until_idle()
    flow.runtime.complete_job("job-1", "cancelled", "nobody wants it")
    events = _watch(daemon, flow)
    flow.close()
    _assert_documented(events, flow)
    assert events[-1]["type"] == "job_cancelled" and events[-1]["data"] == {"reason": "nobody wants it"}


def test_a_breakpoint_is_seen_each_time_it_withholds_data(daemon: Daemon) -> None:
    MonitoringRegistry.enable()
    luxcast.routilux.install(path=daemon.path)
    manager = MonitoringRegistry.get_instance().breakpoint_manager
    assert manager is not None
    stop = Breakpoint(job_id="job-1", routine_id="sink", slot_name="input", condition="n >= 12")
    manager.add_breakpoint(stop)
    flow = RecordedFlow()
    flow.post("job-1", 10)
    flow.wait_until_idle()
    assert stop.hit_count == 3
    flow.runtime.complete_job("job-1")
    events = _watch(daemon, flow)
    flow.close()
    _assert_documented(events, flow)
    hits = _of(events, "breakpoint_hit")
    assert [hit["context"]["variables"] for hit in hits] == [{"n": n, "by": "middle"} for n in (12, 13, 14)]
    for hit in hits:
        place = {"type": "slot", "routine_id": "sink", "slot_name": "input", "event_name": None}
        assert hit["breakpoint"] == {"breakpoint_id": stop.breakpoint_id, **place}
    assert [data["n"] for routine, data in _inner(events, "slot_call") if routine == "sink"] == [10, 11]


def test_an_engine_without_a_daemon_works_as_without_us(socket_path: str) -> None:
    installation = luxcast.routilux.install(path=socket_path)
    flow = RecordedFlow()
    flow.post("job-1", 0)
    flow.wait_until_idle()
    flow.runtime.complete_job("job-1")
    flow.close()
    luxcast.routilux.uninstall(0)
    stats = installation.publisher.stats()
    assert stats.dropped_closed == stats.published > 20 and stats.faults == 0


def test_hooks_have_the_engines_names() -> None:
    for name in ExecutionHooksInterface.__abstractmethods__:
        engines = inspect.signature(getattr(ExecutionHooksInterface, name))
        assert list(inspect.signature(getattr(Hooks, name)).parameters) == list(engines.parameters), name


def test_it_stays_in_place_when_monitoring_is_switched_on_and_off(daemon: Daemon) -> None:
    """As in Routilux's server, which switches it on after it has loaded the modules of the routines."""
    installation = luxcast.routilux.install(path=daemon.path)
    MonitoringRegistry.enable()
    assert installation.is_in_place and luxcast.routilux.install(path=daemon.path) is installation
    manager = MonitoringRegistry.get_instance().breakpoint_manager
    assert manager is not None
    stop = Breakpoint(job_id="stopped", routine_id="sink", slot_name="input")
    manager.add_breakpoint(stop)
    flow = RecordedFlow()
    flow.post("stopped", 10)
    flow.wait_until_idle()
    flow.runtime.complete_job("stopped")
    assert stop.hit_count == 5, "the monitoring is asked"
    MonitoringRegistry.disable()
    flow.post("free", 10)
    flow.wait_until_idle()
    flow.runtime.complete_job("free")
    events = _watch(daemon, flow, last=2)
    flow.close()
    _assert_documented(events, flow)
    for job, hits, calls in (("stopped", 5, 0), ("free", 0, 5)):
        own = [event for event in events if event["job_id"] == job]
        assert (own[0]["type"], own[-1]["type"]) == ("job_started", "job_completed")
        assert len(_of(own, "breakpoint_hit")) == hits
        assert [routine for routine, _ in _inner(own, "slot_call")].count("sink") == calls
    luxcast.routilux.uninstall()
    assert isinstance(get_execution_hooks(), NullExecutionHooks)


def test_hooks_that_are_put_over_ours_are_asked_and_nothing_is_told_twice(daemon: Daemon) -> None:
    class Over(NullExecutionHooks):
        """Asks those before it, as ours do."""

        def __init__(self, before: ExecutionHooksInterface) -> None:
            self.before, self.emitted = before, 0

        def on_event_emit(self, *told: Any, **named: Any) -> bool:
            self.emitted += 1
            return bool(self.before.on_event_emit(*told, **named))

    luxcast.routilux.install(path=daemon.path)
    over = Over(routilux.core.hooks.get_execution_hooks())
    set_execution_hooks(over)
    flow = RecordedFlow()
    flow.post("job-1", 10)
    flow.wait_until_idle()
    flow.runtime.complete_job("job-1")
    events = _watch(daemon, flow)
    flow.close()
    _assert_as_recorded(events, flow)
    assert over.emitted == len(flow.record.emitted)
    luxcast.routilux.uninstall()
    assert get_execution_hooks() is over


def test_putting_hooks_aside_and_back_again_and_again_makes_no_chain(socket_path: str) -> None:
    before = get_execution_hooks()
    installation = luxcast.routilux.install(path=socket_path)
    for _ in range(100):
        aside = routilux.core.hooks.get_execution_hooks()
        set_execution_hooks(NullExecutionHooks())
        assert routilux.core.hooks.get_execution_hooks() is not aside
        set_execution_hooks(aside)
        assert installation.is_in_place
    assert isinstance(aside, Hooks) and not isinstance(aside.before, Hooks)
    luxcast.routilux.uninstall(0)
    assert get_execution_hooks() is before


def test_uninstall_leaves_the_engine_as_it_was(socket_path: str) -> None:
    places = [
        (routilux.core.hooks, "get_execution_hooks"),
        (routilux.core.hooks, "set_execution_hooks"),
        (Runtime, "handle_event_emit"),
        (Runtime, "_check_routine_activation"),
        (WorkerExecutor, "enqueue_task"),
        (WorkerExecutor, "_execute_task"),
    ]
    before = [vars(owner)[name] for owner, name in places]
    hooks = get_execution_hooks()
    luxcast.routilux.install(path=socket_path)
    assert [vars(owner)[name] for owner, name in places] != before
    luxcast.routilux.uninstall(0)
    assert [vars(owner)[name] for owner, name in places] == before
    assert get_execution_hooks() is hooks


def test_an_engine_that_is_not_known_works_and_is_named(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    check = Runtime._check_routine_activation
    monkeypatch.delattr(Runtime, "_check_routine_activation")
    monkeypatch.setattr(Runtime, "__getattr__", lambda runtime, name: check.__get__(runtime), raising=False)
    luxcast.routilux.install(path=daemon.path)
    assert "is unknown to luxcast" in caplog.text
    flow = RecordedFlow()
    flow.post("job-1", 10)
    flow.wait_until_idle()
    flow.runtime.complete_job("job-1")
    events = _watch(daemon, flow)
    flow.close()
    assert {event["routine_id"] for event in _of(events, *_RUNS)} == {"source"}
    assert len(flow.record.of("sink")) == 5


def test_a_fault_of_ours_is_kept_from_the_engine(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object, **named: object) -> Any:
        raise RuntimeError("ours")

    installation = luxcast.routilux.install(path=daemon.path)
    for name in ("event", "now"):
        monkeypatch.setattr(f"luxcast.routilux.events.{name}", fail)
    flow = RecordedFlow()
    flow.post("job-1", 10)
    flow.wait_until_idle()
    flow.runtime.complete_job("job-1")
    flow.close()
    assert flow.record.of("sink") == [{"n": n, "by": "middle"} for n in range(10, 15)]
    assert installation.publisher.stats().faults > 20


def test_names_that_are_no_ids_stay_apart_and_are_told(daemon: Daemon) -> None:
    luxcast.routilux.install(path=daemon.path)
    names = ["数据处理", "图像处理", "a b", "a_b", "x" * 129, "x" * 130, "näheres"]
    for name in names:
        flow = RecordedFlow(flow_id=name)
        flow.post(f"job of {name}", 1)
        flow.wait_until_idle()
        flow.runtime.complete_job(f"job of {name}")
        flow.close()
    with daemon.watch("events") as watcher:
        wait_until(lambda: len(_of(watcher.events, "job_completed")) == len(names), "all have ended")
        events = list(watcher.events)
    ids = {str(event.get("flow_name", event["flow_id"])): event["flow_id"] for event in events}
    assert sorted(ids) == sorted(names) and len(set(ids.values())) == len(names)
    assert ids["a_b"] == "a_b" and ids["a b"].startswith("a_b-") and ids["näheres"].startswith("n_heres-")
    jobs = {event["job_name"]: event["job_id"] for event in events}
    assert len(set(jobs.values())) == len(names)
    assert all(what_is_wrong(id_) is None for id_ in (*ids.values(), *jobs.values()))


def test_hooks_that_were_there_are_asked_and_come_back(socket_path: str) -> None:
    class Before(NullExecutionHooks):
        emitted = 0

        def on_event_emit(self, *told: Any, **named: Any) -> bool:
            Before.emitted += 1
            return False

    before = Before()
    set_execution_hooks(before)
    luxcast.routilux.install(path=socket_path)
    assert luxcast.routilux.install(path=socket_path).is_in_place
    flow = RecordedFlow()
    flow.post("job-1", 0)
    flow.wait_until_idle()
    assert Before.emitted == 5, "they were asked once about each"
    flow.close()
    assert flow.record.of("middle") == [], "and their answer held"
    luxcast.routilux.uninstall(0)
    assert get_execution_hooks() is before


def test_disabled_the_engine_keeps_its_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUXCAST_DISABLED", "1")
    hooks = get_execution_hooks()
    assert not luxcast.routilux.install().is_in_place
    assert get_execution_hooks() is hooks
