"""The publisher beside the real daemon, through restarts of each kind; watchers are WebSocket clients."""

from __future__ import annotations

import math
from pathlib import Path

from daemon import Daemon
from luxcast import Publisher, Stats
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
