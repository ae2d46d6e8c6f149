"""The publisher beside the real daemon, through restarts of each kind; watchers are WebSocket clients."""

from __future__ import annotations

import json
import math
import time
import urllib.request
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import numpy
import pytest

from daemon import Daemon
from luxcast import Publisher, Stats
from luxcast.routilux.events import now
from waiting import PATIENCE, wait_until


def _numbers(events: list[dict[str, object]]) -> list[object]:
    return [event["n"] for event in events]


def test_watchers_get_what_was_published(daemon: Daemon) -> None:
    with Publisher(daemon.path) as publisher, daemon.watch("jobs/j/monitor") as watcher:
        for n in range(1000):
            publisher.publish({"type": "execution_event", "job_id": "j", "flow_id": "f", "n": n})
        assert _numbers(watcher.wait_for(1000)) == list(range(1000))
        assert publisher.flush(PATIENCE)
        assert publisher.stats() == Stats(published=1000, delivered=1000, connections=1)


def test_the_daemon_takes_every_odd_value(daemon: Daemon) -> None:
    deep: list[object] = []
    for _ in range(200):
        deep = [deep]
    odd = [math.nan, "\ud800", {(1,): b"\xff"}, object(), 10**400, 10**5000, deep, "\x00\n\u2028😀", -0.0, "[{" * 99]
    with Publisher(daemon.path) as publisher, daemon.watch("jobs/j/monitor") as watcher:
        for n, value in enumerate(odd):
            publisher.publish({"type": "t", "job_id": "j", "n": n, "value": value})
        publisher.publish({"type": "t", "job_id": "j", "n": len(odd), "value": "x" * 3_000_000})
        assert publisher.flush(PATIENCE)
        assert publisher.stats().refused == 0
        assert _numbers(watcher.wait_for(len(odd) + 1)) == list(range(len(odd) + 1))


def test_a_refusal_of_the_daemon_is_counted(daemon: Daemon) -> None:
    with Publisher(daemon.path) as publisher:
        publisher.publish({"type": "t", "job_id": "not an id"})
        publisher.publish({"type": "t", "job_id": "j"})
        assert publisher.flush(PATIENCE)
        assert (publisher.stats().refused, publisher.stats().delivered) == (1, 1)


@pytest.mark.parametrize("event", [{}, {"op": "from", "line": 9}, {"type": 5}, {"type": None}, {"type": ["t"]}, {"type": 0.5}])
def test_an_event_without_a_type_is_refused_and_harms_no_other(daemon: Daemon, event: dict[str, object]) -> None:
    with Publisher(daemon.path) as publisher, daemon.watch("jobs/j/monitor") as watcher:
        for n in range(2):
            publisher.publish({"type": "t", "job_id": "j", "n": n})
            assert publisher.publish({**event, "job_id": "j"}), "it is for the daemon to judge"
            assert publisher.flush(PATIENCE)
        stats = publisher.stats()
        assert (stats.published, stats.delivered, stats.refused, stats.connections) == (4, 2, 2, 1)
        assert _numbers(watcher.wait_for(2)) == [0, 1]


def test_nan_names_no_job(daemon: Daemon) -> None:
    with Publisher(daemon.path) as publisher, daemon.watch("flows/f/monitor") as watcher:
        publisher.publish({"type": "t", "job_id": math.nan})
        publisher.publish({"type": "t", "job_id": numpy.float64("nan"), "flow_id": "f"})
        assert publisher.flush(PATIENCE)
        assert (publisher.stats().refused, publisher.stats().delivered) == (1, 1)
        assert watcher.wait_for(1)[0]["job_id"] is None


def test_refusals_are_counted_however_many_come_at_once(daemon: Daemon) -> None:
    with Publisher(daemon.path) as publisher:
        for n in range(3000):
            publisher.publish({"type": "t", "job_id": "etl/7" if n % 3 else "j", "n": n})
        assert publisher.flush(PATIENCE)
        stats = publisher.stats()
        assert (stats.delivered, stats.refused) == (1000, 2000)


def test_ids_that_are_no_texts_name_the_job_all_the_same(daemon: Daemon) -> None:
    with Publisher(daemon.path) as publisher:
        for job in (5, UUID(int=7), numpy.int64(9)):
            publisher.publish({"type": "job_started", "job_id": job, "flow_id": "f"})
            with daemon.watch(f"jobs/{job}/monitor") as watcher:
                assert watcher.wait_for(1)[0]["job_id"] == str(job)


@pytest.fixture
def _tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_tokyo")
def test_the_daemon_reads_every_time_that_is_written_here(daemon: Daemon) -> None:
    utc = datetime(2025, 1, 15, 10, 30, 0, 250_000, timezone.utc)
    written = now()
    times: list[tuple[object, str]] = [
        (utc, "2025-01-15T10:30:00.250Z"),
        (utc.astimezone(timezone(timedelta(hours=-5, minutes=-30))), "2025-01-15T10:30:00.250Z"),
        (utc.replace(tzinfo=None) + timedelta(hours=9), "2025-01-15T10:30:00.250Z"),
        (datetime(1880, 1, 1, 9, 18, 59), "1880-01-01T00:00:00.000Z"),
        (date(2025, 1, 15), "2025-01-15T00:00:00.000Z"),
        (numpy.datetime64("2025-01-15T10:30:00.25"), "2025-01-15T10:30:00.250Z"),
        (numpy.datetime64("2025-01-15T10:30:00.25", "ns"), "2025-01-15T10:30:00.250Z"),
        (written, written),
    ]
    with Publisher(daemon.path) as publisher:
        for n, (timestamp, _) in enumerate(times):
            publisher.publish({"type": "job_started", "job_id": f"j{n}", "timestamp": timestamp})
        assert publisher.flush(PATIENCE)
    with urllib.request.urlopen(f"http{daemon.address[2:]}/console/jobs", timeout=PATIENCE) as answer:
        jobs = {job["job_id"]: job["start_time"] for job in json.load(answer)["jobs"]}
    assert [jobs[f"j{n}"] for n in range(len(times))] == [time_ for _, time_ in times]


def test_a_clean_restart_loses_and_doubles_nothing(socket_path: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with Daemon(socket_path, "--state-dir", str(state)) as daemon, Publisher(daemon.path) as publisher:
        for n in range(6000):
            publisher.publish({"type": "t", "job_id": "j", "n": n})
            if n in (2000, 4000):
                wait_until(lambda: publisher.stats().delivered > 0, "some arrived")
                daemon.stop()
                daemon.start()
        assert publisher.flush(PATIENCE)
        with daemon.watch("jobs/j/monitor") as watcher:
            assert _numbers(watcher.wait_for(6000)) == list(range(6000))
            assert watcher.gaps == []
        assert publisher.stats().connections >= 2


def test_after_a_kill_the_next_daemon_gets_each_event_that_was_not_acknowledged_once(daemon: Daemon) -> None:
    with Publisher(daemon.path) as publisher:
        connections = 1
        for round_ in range(3):
            with daemon.watch("jobs/j/monitor", since="now") as watcher:
                for n in range(round_ * 2000, round_ * 2000 + 1000):
                    publisher.publish({"type": "t", "job_id": "j", "n": n})
                watcher.wait_for(1)
                daemon.kill()
            # Published while there is none. None of what was acknowledged can still change.
            for n in range(round_ * 2000 + 1000, round_ * 2000 + 2000):
                publisher.publish({"type": "t", "job_id": "j", "n": n})
            seen = _numbers(watcher.events)
            assert seen == sorted(set(map(int, map(str, seen)))), "none came twice or in another order"
            daemon.start()
            assert publisher.flush(PATIENCE)
            connections += 1
            with daemon.watch("jobs/j/monitor") as watcher:
                last = round_ * 2000 + 1999
                wait_until(lambda: last in _numbers(watcher.events), "the last one arrived")
                first = int(str(_numbers(watcher.events)[0]))
                assert _numbers(watcher.events) == list(range(first, last + 1)), "a hole, or one came twice"
                assert first <= round_ * 2000 + 1000, "what was published meanwhile is there"
        stats = publisher.stats()
        assert (stats.published, stats.delivered, stats.connections) == (6000, 6000, connections)
