"""The publisher beside a fake daemon: bounds, failures, and the end."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fake import FakeDaemon
from luxcast import Publisher, Stats
from waiting import PATIENCE, wait_until


def _event(n: int, kind: str = "execution_event", **members: object) -> dict[str, Any]:
    return {"type": kind, "job_id": "j", "n": n, **members}


@contextmanager
def _publisher(path: str, **settings: Any) -> Iterator[Publisher]:
    publisher = Publisher(path, retry_seconds_max=0.2, **settings)
    try:
        yield publisher
    finally:
        publisher.close(0)


def _assert_all_counted(stats: Stats) -> None:
    assert stats.published == stats.delivered + stats.refused + stats.dropped + stats.waiting, stats
    assert stats.faults == 0


def test_events_arrive_once_and_in_order(fake: FakeDaemon) -> None:
    with _publisher(fake.path) as publisher:
        for n in range(5_000):
            assert publisher.publish(_event(n))
        assert publisher.flush(PATIENCE)
        assert fake.numbers() == list(range(5_000))
        assert publisher.stats() == Stats(published=5_000, delivered=5_000, connections=1)


def test_many_threads_publish_at_once(fake: FakeDaemon) -> None:
    def work(thread: int) -> None:
        for n in range(500):
            publisher.publish(_event(n, thread=thread))

    with _publisher(fake.path) as publisher:
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert publisher.flush(PATIENCE)
        for number in range(16):
            assert [event["n"] for event in fake.events if event["thread"] == number] == list(range(500))
        assert len(fake.events) == 16 * 500


def test_an_event_is_sent_as_it_was_when_it_was_published(fake: FakeDaemon) -> None:
    with _publisher(fake.path) as publisher:
        values = [1]
        publisher.publish(_event(0, values=values))
        values.append(2)
        assert publisher.flush(PATIENCE)
        assert fake.events[0]["values"] == [1]


def test_without_a_daemon_events_wait_for_it(socket_path: str) -> None:
    with _publisher(socket_path) as publisher:
        for n in range(100):
            assert publisher.publish(_event(n))
        assert not publisher.flush(0.3)
        assert publisher.stats() == Stats(published=100, waiting=100, waiting_bytes=publisher.stats().waiting_bytes)
        with FakeDaemon(socket_path) as fake:
            assert publisher.flush(PATIENCE)
            assert fake.numbers() == list(range(100))


def test_a_full_buffer_drops_in_order_of_rank_and_says_so(
    socket_path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "luxcast")
    with _publisher(socket_path, events_max=30) as publisher:
        kinds = ["metrics", "execution_event", "routine_started"]
        for n in range(60):
            publisher.publish(_event(n, kinds[n % 3]))
        stats = publisher.stats()
        assert (stats.dropped_metrics, stats.waiting) == (20, 30)
        assert (stats.dropped_execution_events, stats.dropped_lifecycle) == (10, 0)
        for n in range(60, 70):
            publisher.publish(_event(n, "job_failed"))
        stats = publisher.stats()
        assert (stats.dropped_execution_events, stats.dropped_lifecycle, stats.waiting) == (20, 0, 30)
        _assert_all_counted(stats)
        wait_until(lambda: "events dropped" in caplog.text, "the log tells of dropped events")
        with FakeDaemon(socket_path) as fake:
            assert publisher.flush(PATIENCE)
            assert fake.numbers() == [n for n in range(70) if n >= 60 or n % 3 == 2]


def test_a_daemon_that_does_not_read_never_makes_the_caller_wait(fake: FakeDaemon) -> None:
    with _publisher(fake.path, bytes_max=2_000_000) as publisher:
        publisher.publish(_event(0, "job_started"))
        assert publisher.flush(PATIENCE)
        fake.may_read.clear()
        longest = 0.0
        for n in range(1, 30_000):
            began = time.monotonic()
            publisher.publish(_event(n, text="x" * 1000))
            longest = max(longest, time.monotonic() - began)
        publisher.publish(_event(30_000, "job_completed"))
        stats = publisher.stats()
        assert stats.waiting_bytes <= 2_000_000 and stats.dropped_execution_events > 20_000
        assert longest < 5.0, "an engine thread waited for the daemon"
        _assert_all_counted(stats)
        fake.may_read.set()
        assert publisher.flush(PATIENCE)
        numbers = fake.numbers()
        assert numbers == sorted(set(numbers)) and numbers[0] == 0 and numbers[-1] == 30_000
        assert len(numbers) == publisher.stats().delivered
        _assert_all_counted(publisher.stats())


@pytest.mark.parametrize("forgets", [False, True])
def test_a_daemon_that_comes_back_gets_what_it_has_not(fake: FakeDaemon, forgets: bool) -> None:
    with _publisher(fake.path) as publisher:
        for round_ in range(4):
            for n in range(1000):
                publisher.publish(_event(1000 * round_ + n))
            wait_until(lambda: publisher.stats().delivered > 1000 * round_, "some events arrived")
            fake.go_away(forgets)
            fake.listen()
        assert publisher.flush(PATIENCE)
        numbers = fake.numbers()
        assert sorted(set(numbers)) == list(range(4000)), "some were lost"
        assert len(set(fake.names)) == 1, "the name is what the daemon remembers lines by"
        if not forgets:
            assert numbers == list(range(4000)), "some came twice or in another order"


def test_what_was_accepted_but_not_acknowledged_is_not_sent_twice(fake: FakeDaemon) -> None:
    fake.answers_acks = False
    with _publisher(fake.path) as publisher:
        for n in range(100):
            publisher.publish(_event(n))
        wait_until(lambda: len(fake.events) == 100, "all arrived")
        assert publisher.stats().waiting == 100, "nothing told the publisher so"
        fake.go_away(forgets=False)
        fake.answers_acks = True
        fake.listen()
        publisher.publish(_event(100))
        assert publisher.flush(PATIENCE)
        assert fake.numbers() == list(range(101))
        assert publisher.stats().delivered == 101


def test_refused_lines_are_counted_and_told(fake: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "luxcast")
    fake.refuses.add("bad")
    with _publisher(fake.path) as publisher:
        for n in range(10):
            publisher.publish(_event(n, "bad" if n % 2 else "job_started"))
        assert publisher.flush(PATIENCE)
        wait_until(lambda: "refused by the daemon" in caplog.text, "the log tells of refused events")
        assert "bad_type: told to" in caplog.text
        stats = publisher.stats()
        assert (stats.delivered, stats.refused) == (5, 5)
        _assert_all_counted(stats)


def test_what_is_no_event_is_counted_and_never_raises(fake: FakeDaemon) -> None:
    class Odd(dict):  # type: ignore[type-arg]
        def get(self, key: object, default: object = None) -> object:
            raise RuntimeError("no")

    with _publisher(fake.path, line_bytes_max=1000) as publisher:
        nothing: Any = None
        for event in (nothing, {}, {"type": 3}, {"op": "from", "line": 7}):
            assert not publisher.publish(event)
        assert not publisher.publish({"type": "t", **{f"k{n}": n for n in range(500)}, "x": ["y" * 300] * 300})
        assert not publisher.publish(Odd())
        stats = publisher.stats()
        assert (stats.dropped_invalid, stats.dropped_too_large, stats.faults) == (4, 1, 1)
        assert publisher.publish(_event(0, text="z" * 5000))
        assert publisher.flush(PATIENCE)
        assert publisher.stats().cut == 1 and len(fake.events) == 1


def test_close_sends_what_waits(fake: FakeDaemon) -> None:
    publisher = Publisher(fake.path)
    for n in range(10_000):
        publisher.publish(_event(n))
    assert publisher.close(PATIENCE)
    assert fake.numbers() == list(range(10_000))
    assert not publisher.publish(_event(1)), "it takes no more"
    assert publisher.stats().dropped_closed == 1
    assert publisher.close(), "closing again is nothing"


def test_with_sends_what_waits(fake: FakeDaemon) -> None:
    with Publisher(fake.path) as publisher:
        publisher.publish(_event(0))
    assert fake.numbers() == [0]


@pytest.mark.parametrize("is_there", [False, True])
def test_close_gives_up_at_its_deadline(socket_path: str, is_there: bool) -> None:
    fake = FakeDaemon(socket_path) if is_there else None
    if fake is not None:
        fake.may_read.clear()
    publisher = Publisher(socket_path)
    for n in range(100):
        publisher.publish(_event(n))
    began = time.monotonic()
    assert not publisher.close(0.3)
    assert 0.3 <= time.monotonic() - began < 10
    stats = publisher.stats()
    assert (stats.dropped_closed, stats.waiting) == (100, 0)
    _assert_all_counted(stats)
    assert not any(thread.name == "luxcast" for thread in threading.enumerate()), "its thread has ended"
    if fake is not None:
        fake.go_away(forgets=True)


def test_something_else_at_the_socket_does_no_harm(socket_path: str, caplog: pytest.LogCaptureFixture) -> None:
    import socket

    caplog.set_level(logging.WARNING, "luxcast")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_path)
        listener.listen()
        with _publisher(socket_path) as publisher:
            publisher.publish(_event(0))
            for answer in (b"HTTP/1.1 400\n", b"[]\n", b'{"op":"welcome","stream_seq":1}\n', b"x" * 100_000):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(answer)
                    while connection.recv(1000):
                        pass
            assert publisher.stats().waiting == 1
        assert caplog.text.count("not the daemon") == 1, "it is told once"


def test_disabled_it_does_nothing(fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUXCAST_DISABLED", "1")
    threads = threading.active_count()
    with Publisher(fake.path) as publisher:
        assert publisher.is_disabled
        assert not publisher.publish(_event(0))
        assert publisher.flush() and publisher.stats() == Stats()
        assert threading.active_count() == threads
    assert fake.names == []
    monkeypatch.setenv("LUXCAST_DISABLED", "0")
    assert not Publisher(fake.path).is_disabled


def test_the_socket_is_found_as_the_daemon_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Publisher().path == "/run/luxcast/ingest.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert Publisher().path == "/run/user/7/luxcast.sock"
    monkeypatch.setenv("LUXCAST_INGEST", "/tmp/x")
    assert Publisher().path == "/tmp/x"
    assert Publisher("/tmp/y").path == "/tmp/y"


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "a b"},
        {"name": ""},
        {"events_max": 0},
        {"line_bytes_max": 10},
        {"bytes_max": 1000},
        {"linger_seconds": -1},
        {"retry_seconds_max": 0},
    ],
)
def test_settings_that_make_no_sense_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Publisher(**settings)


def test_it_waits_without_using_the_processor(fake: FakeDaemon) -> None:
    with _publisher(fake.path) as publisher:
        publisher.publish(_event(0))
        assert publisher.flush(PATIENCE)
        before = os.times()
        time.sleep(1.0)
        after = os.times()
        assert after.user + after.system - before.user - before.system < 0.5
