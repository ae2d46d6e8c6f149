"""The publisher beside a fake daemon: bounds, failures, and the end."""

from __future__ import annotations

import inspect
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections import UserString
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Callable

import numpy
import pytest

from fake import FakeDaemon
from luxcast import Publisher, Stats, default_paths
from luxcast.head import Heads
from luxcast.problems import KINDS_MAX, Problem, Problems
from luxcast.report import Report
from luxcast.socket_sender import SocketSender
from publishing import an_event, assert_all_counted, publishing
from waiting import PATIENCE, wait_until


def test_events_arrive_once_and_in_order(fake: FakeDaemon) -> None:
    with publishing(fake.path) as publisher:
        for n in range(5_000):
            assert publisher.publish(an_event(n))
        assert publisher.flush(PATIENCE)
        assert fake.numbers() == list(range(5_000))
        assert publisher.stats() == Stats(published=5_000, delivered=5_000, connections=1)


def test_many_threads_publish_at_once(fake: FakeDaemon) -> None:
    def work(thread: int) -> None:
        for n in range(500):
            publisher.publish(an_event(n, thread=thread))

    with publishing(fake.path) as publisher:
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
    with publishing(fake.path) as publisher:
        values = [1]
        publisher.publish(an_event(0, values=values))
        values.append(2)
        assert publisher.flush(PATIENCE)
        assert fake.events[0]["values"] == [1]


def test_without_a_daemon_events_wait_for_it(socket_path: str) -> None:
    with publishing(socket_path) as publisher:
        for n in range(100):
            assert publisher.publish(an_event(n))
        assert not publisher.flush(0.3)
        assert publisher.stats() == Stats(published=100, waiting=100, waiting_bytes=publisher.stats().waiting_bytes)
        with FakeDaemon(socket_path) as fake:
            assert publisher.flush(PATIENCE)
            assert fake.numbers() == list(range(100))


def test_a_full_buffer_drops_in_order_of_rank_and_says_so(
    socket_path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "luxcast")
    with publishing(socket_path, events_max=30) as publisher:
        kinds = ["metrics", "execution_event", "routine_started"]
        for n in range(60):
            publisher.publish(an_event(n, kinds[n % 3]))
        stats = publisher.stats()
        assert (stats.dropped_metrics, stats.waiting) == (20, 30)
        assert (stats.dropped_execution_events, stats.dropped_lifecycle) == (10, 0)
        for n in range(60, 70):
            publisher.publish(an_event(n, "job_failed"))
        stats = publisher.stats()
        assert (stats.dropped_execution_events, stats.dropped_lifecycle, stats.waiting) == (20, 0, 30)
        assert_all_counted(stats)
        wait_until(lambda: "events dropped" in caplog.text, "the log tells of dropped events")
        with FakeDaemon(socket_path) as fake:
            assert publisher.flush(PATIENCE)
            assert fake.numbers() == [n for n in range(70) if n >= 60 or n % 3 == 2]


def test_a_daemon_that_does_not_read_never_makes_the_caller_wait(fake: FakeDaemon) -> None:
    with publishing(fake.path, bytes_max=2_000_000) as publisher:
        publisher.publish(an_event(0, "job_started"))
        assert publisher.flush(PATIENCE)
        fake.may_read.clear()
        longest = 0.0
        for n in range(1, 30_000):
            began = time.monotonic()
            publisher.publish(an_event(n, text="x" * 1000))
            longest = max(longest, time.monotonic() - began)
        publisher.publish(an_event(30_000, "job_completed"))
        stats = publisher.stats()
        assert stats.waiting_bytes <= 2_000_000 and stats.dropped_execution_events > 20_000
        assert longest < 5.0, "an engine thread waited for the daemon"
        assert_all_counted(stats)
        fake.may_read.set()
        assert publisher.flush(PATIENCE)
        numbers = fake.numbers()
        assert numbers == sorted(set(numbers)) and numbers[0] == 0 and numbers[-1] == 30_000
        assert len(numbers) == publisher.stats().delivered
        assert_all_counted(publisher.stats())


@pytest.mark.parametrize("forgets", [False, True])
def test_a_daemon_that_comes_back_gets_what_it_has_not(fake: FakeDaemon, forgets: bool) -> None:
    with publishing(fake.path) as publisher:
        for round_ in range(4):
            for n in range(1000):
                publisher.publish(an_event(1000 * round_ + n))
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
    with publishing(fake.path) as publisher:
        for n in range(100):
            publisher.publish(an_event(n))
        wait_until(lambda: len(fake.events) == 100, "all arrived")
        assert publisher.stats().waiting == 100, "nothing told the publisher so"
        fake.go_away(forgets=False)
        fake.answers_acks = True
        fake.listen()
        publisher.publish(an_event(100))
        assert publisher.flush(PATIENCE)
        assert fake.numbers() == list(range(101))
        assert publisher.stats().delivered == 101


def test_refused_lines_are_counted_and_told(fake: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "luxcast")
    fake.refuses.add("bad")
    with publishing(fake.path) as publisher:
        for n in range(10):
            publisher.publish(an_event(n, "bad" if n % 2 else "job_started"))
        assert publisher.flush(PATIENCE)
        wait_until(lambda: "refused by the daemon" in caplog.text, "the log tells of refused events")
        assert "bad_type: told to" in caplog.text
        stats = publisher.stats()
        assert (stats.delivered, stats.refused) == (5, 5)
        assert_all_counted(stats)


@pytest.mark.parametrize(("named", "counts"), [(64, True), (0, True), (10**9, False)])
def test_refusals_are_counted_however_many_the_daemon_names(
    fake: FakeDaemon, named: int, counts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "luxcast")
    fake.errors_max, fake.counts_refusals = named, counts
    fake.refuses.add("bad")
    fake.may_read.clear()
    with publishing(fake.path) as publisher:
        for n in range(1000):
            publisher.publish(an_event(n, "bad" if n % 10 else "good"))
        fake.may_read.set()
        assert publisher.flush(PATIENCE)
        stats = publisher.stats()
        assert (stats.delivered, stats.refused) == (100, 900)
        assert_all_counted(stats)
    wait_until(lambda: "refused by the daemon" in caplog.text, "the log tells")
    assert ("none of them named" in caplog.text) == (named == 0)


def test_what_is_no_event_is_counted_and_never_raises(fake: FakeDaemon) -> None:
    class Odd(dict):  # type: ignore[type-arg]
        def get(self, key: object, default: object = None) -> object:
            raise RuntimeError("no")

    with publishing(fake.path, line_bytes_max=1000) as publisher:
        nothing: Any = None
        others: list[Any] = [nothing, [], "text", ["type"]]
        for event in others:
            assert not publisher.publish(event)
        assert not publisher.publish({"type": "t", **{f"k{n}": n for n in range(500)}, "x": ["y" * 300] * 300})
        assert not publisher.publish(Odd())
        stats = publisher.stats()
        assert (stats.dropped_invalid, stats.dropped_too_large, stats.faults) == (4, 1, 1)
        assert publisher.publish(an_event(0, text="z" * 5000))
        assert publisher.flush(PATIENCE)
        assert publisher.stats().cut == 1 and len(fake.events) == 1


def test_close_sends_what_waits(fake: FakeDaemon) -> None:
    publisher = Publisher(fake.path)
    for n in range(10_000):
        publisher.publish(an_event(n))
    assert publisher.close(PATIENCE)
    assert fake.numbers() == list(range(10_000))
    assert not publisher.publish(an_event(1)), "it takes no more"
    assert publisher.stats().dropped_closed == 1
    assert publisher.close(), "closing again is nothing"


def test_with_waits_no_longer_than_the_end_of_the_process(socket_path: str) -> None:
    began = time.monotonic()
    with Publisher(socket_path, exit_seconds=0.3) as publisher:
        publisher.publish(an_event(0))
    assert 0.3 <= time.monotonic() - began < 4
    assert publisher.stats() == Stats(published=1, dropped_closed=1)


def test_a_path_may_be_any_kind_of_path(fake: FakeDaemon) -> None:
    for path in (Path(fake.path), fake.path):
        with Publisher(path) as publisher:
            assert publisher.path == fake.path
            publisher.publish(an_event(0))
            assert publisher.flush(PATIENCE)
    nothing: Any = 5
    with pytest.raises(TypeError):
        Publisher(nothing)
    with pytest.raises(ValueError, match="NUL"):
        Publisher("/tmp/a\0b")


def test_with_sends_what_waits(fake: FakeDaemon) -> None:
    with Publisher(fake.path) as publisher:
        publisher.publish(an_event(0))
    assert fake.numbers() == [0]


@pytest.mark.parametrize("is_there", [False, True])
def test_close_gives_up_at_its_deadline(socket_path: str, is_there: bool) -> None:
    fake = FakeDaemon(socket_path) if is_there else None
    if fake is not None:
        fake.may_read.clear()
    publisher = Publisher(socket_path)
    for n in range(100):
        publisher.publish(an_event(n))
    began = time.monotonic()
    assert not publisher.close(0.3)
    assert 0.3 <= time.monotonic() - began < 10
    stats = publisher.stats()
    assert (stats.dropped_closed, stats.waiting) == (100, 0)
    assert_all_counted(stats)
    assert not any(thread.name == "luxcast" for thread in threading.enumerate()), "its thread has ended"
    if fake is not None:
        fake.go_away(forgets=True)


def test_something_else_at_the_socket_does_no_harm(socket_path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "luxcast")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(socket_path)
        listener.listen()
        with publishing(socket_path) as publisher:
            publisher.publish(an_event(0))
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
        assert not publisher.publish(an_event(0))
        assert publisher.flush() and publisher.stats() == Stats()
        assert threading.active_count() == threads
    assert fake.names == []
    monkeypatch.setenv("LUXCAST_DISABLED", "0")
    assert not Publisher(fake.path).is_disabled


def test_the_socket_is_found_as_the_daemon_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Publisher().path == "/run/luxcast/ingest.sock"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "not/absolute")
    assert default_paths() == ("/run/luxcast/ingest.sock",)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert Publisher().path == "/run/user/7/luxcast.sock"
    assert default_paths() == ("/run/user/7/luxcast.sock", "/run/luxcast/ingest.sock")
    monkeypatch.setenv("LUXCAST_INGEST", "/tmp/x")
    assert Publisher().path == "/tmp/x" and default_paths() == ("/tmp/x",)
    assert Publisher("/tmp/y").path == "/tmp/y"


@pytest.fixture
def _two_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """The user's own socket and the packaged service's, which is in another place for this test."""
    own, packaged = str(tmp_path / "luxcast.sock"), str(tmp_path / "packaged.sock")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("luxcast.settings.SYSTEM_PATH", packaged)
    return own, packaged


def test_both_usual_places_are_looked_at(_two_places: tuple[str, str], caplog: pytest.LogCaptureFixture) -> None:
    own, packaged = _two_places
    caplog.set_level(logging.WARNING, "luxcast")
    publisher = Publisher(retry_seconds_max=0.2)
    publisher.publish(an_event(0))
    wait_until(lambda: "cannot publish" in caplog.text, "the log tells")
    assert f"at {own} or {packaged}" in caplog.text
    with FakeDaemon(packaged) as fake:
        assert publisher.flush(PATIENCE)
        assert fake.numbers() == [0]
        with FakeDaemon(own) as other:
            fake.go_away(forgets=False)
            fake.listen()
            publisher.publish(an_event(1))
            assert publisher.close(PATIENCE)
            assert (fake.numbers(), other.numbers()) == ([0, 1], []), "it stays where it was"


def test_what_is_no_daemon_in_one_place_does_not_hide_that_in_the_other(_two_places: tuple[str, str]) -> None:
    own, packaged = _two_places
    with socket.socket(socket.AF_UNIX) as listener, FakeDaemon(packaged) as fake:
        listener.bind(own)
        listener.listen()
        with Publisher(retry_seconds_max=0.2) as publisher:
            publisher.publish(an_event(0))
            connection, _ = listener.accept()
            connection.close()
            assert publisher.flush(PATIENCE)
            assert fake.numbers() == [0]


def test_a_misspelt_variable_is_told(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LUXCAST_DISABLE", "1")
    monkeypatch.setenv("LUXCAST_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("LUXCAST_DISABLED", "0")
    with publishing(fake.path) as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
    told = [record.getMessage() for record in caplog.records if "is unknown; known are" in record.getMessage()]
    assert len(told) == 1 and "LUXCAST_DISABLE is unknown" in told[0]


def _raise(error: BaseException) -> Callable[..., Any]:
    def fail(*given: object, **named: object) -> Any:
        raise error

    return fail


def test_a_log_that_fails_does_not_stop_the_sending(fake: FakeDaemon) -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("no log today")

    logger = logging.Logger("broken")
    logger.addFilter(Broken())
    fake.refuses.add("bad")
    with publishing(fake.path, logger=logger) as publisher:
        assert publisher.publish(an_event(0, "bad"))
        assert publisher.flush(PATIENCE)
        for round_ in range(3):
            fake.go_away(forgets=False)
            fake.listen()
            assert publisher.publish(an_event(round_ + 1))
            assert publisher.flush(PATIENCE)
        assert fake.numbers() == [1, 2, 3]
        stats = publisher.stats()
        assert stats.sender_faults > 0 and stats.last_fault == "RuntimeError: no log today"
        assert_all_counted(stats, has_sender_failed=True)


def test_a_sender_that_fails_goes_on_and_says_so(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "luxcast")
    monkeypatch.setattr(SocketSender, "_converse", _raise(ZeroDivisionError("by nothing")))
    with publishing(fake.path) as publisher:
        publisher.publish(an_event(0))
        wait_until(lambda: publisher.stats().sender_faults > 2, "it failed again and again")
        assert not publisher.publish(an_event(1)), "nobody can say whether this will be sent"
        stats = publisher.stats()
        assert (stats.last_fault, stats.waiting, stats.faults) == ("ZeroDivisionError: by nothing", 2, 0)
        monkeypatch.undo()
        assert publisher.flush(PATIENCE)
        assert fake.numbers() == [0, 1]
        wait_until(lambda: "the thread that sends failed" in caplog.text, "the log tells")
        assert "ZeroDivisionError" in caplog.text and "lost by a fault" not in caplog.text
        assert publisher.publish(an_event(2))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sender_that_was_ended_is_started_again(fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    with publishing(fake.path) as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
        with monkeypatch.context() as patch:
            patch.setattr(SocketSender, "_handle_answers", _raise(SystemExit(3)))
            publisher.publish(an_event(1))
            wait_until(lambda: publisher.stats().last_fault == "SystemExit: 3", "the thread has ended")
        wait_until(lambda: publisher.publish(an_event(2)), "it is up again")
        assert publisher.flush(PATIENCE)
        numbers = fake.numbers()
        assert numbers[:2] == [0, 1] and set(numbers[2:]) == {2}, "nothing came twice but for what was published twice"
        assert len(set(fake.names)) == 1
        assert_all_counted(publisher.stats(), has_sender_failed=True)


def test_a_thread_that_cannot_be_started_is_told(fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    with publishing(fake.path) as publisher:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", _raise(RuntimeError("can't start new thread")))
            assert not publisher.publish(an_event(0))
        assert publisher.stats().last_fault == "RuntimeError: can't start new thread"
        wait_until(lambda: publisher.publish(an_event(1)), "there is one now")
        assert publisher.flush(PATIENCE)
        assert fake.numbers()[:2] == [0, 1]


class _Kind(Enum):
    STARTED = "job_started"


def test_ids_become_texts_where_people_take_them_for_ids(fake: FakeDaemon) -> None:
    ids = [5, uuid.UUID(int=7), numpy.int64(9), _Kind.STARTED, Path("run-1"), b"raw", "plain"]
    with publishing(fake.path) as publisher:
        for id_ in ids:
            event = {"type": _Kind.STARTED, "job_id": id_, "flow_id": id_}
            assert publisher.publish(event)
            assert event["job_id"] is id_, "the caller's event is left alone"
        assert publisher.flush(PATIENCE)
        expected = ["5", str(uuid.UUID(int=7)), "9", "job_started", "run-1", "raw", "plain"]
        assert [event["job_id"] for event in fake.events] == expected
        assert [event["flow_id"] for event in fake.events] == expected
        assert {event["type"] for event in fake.events} == {"job_started"}


def test_a_timestamp_stays_one_that_can_be_read(fake: FakeDaemon) -> None:
    at = datetime(2025, 1, 15, 10, 30, tzinfo=timezone.utc)
    times = [at, at.timestamp(), Decimal("1736937000.25"), numpy.datetime64("2025-01-15T10:30:00"), None]
    with publishing(fake.path) as publisher:
        for timestamp in times:
            publisher.publish(an_event(0, timestamp=timestamp))
        assert publisher.flush(PATIENCE)
        assert [event["timestamp"] for event in fake.events] == [
            "2025-01-15T10:30:00+00:00",
            1736937000,
            1736937000.25,
            "2025-01-15T10:30:00",
            None,
        ]


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"type": "t", "job_id": "etl/7"}, "job_id 'etl/7' has '/' in it"),
        ({"type": "t", "flow_id": "\u6570"}, "flow_id '\\u6570' has '\\u6570' in it"),
        ({"type": "t", "job_id": "x" * 129}, "has 129 characters, not 1 to 128"),
        ({"type": "t", "job_id": "", "flow_id": "f"}, "job_id '' has 0 characters"),
        ({"type": "t", "job_id": 1.5}, "job_id 1.5 is not a text"),
        ({"type": "t", "job_id": True}, "job_id True is not a text"),
        ({"type": "t", "job_id": ["a"]}, "job_id ['a'] is not a text"),
        ({"type": "t", "job_id": 10**5000}, "is not a text"),
        ({"type": "t"}, "neither job_id nor flow_id"),
        ({"type": "t", "job_id": float("nan")}, "neither job_id nor flow_id"),
        ({"type": "t", "job_id": None}, "neither job_id nor flow_id"),
        ({"type": "a b", "job_id": "j"}, "type 'a b' has ' ' in it"),
        ({"type": 5, "job_id": "j"}, "type 5 is not a text"),
        ({"type": ["t"], "job_id": "j"}, "type ['t'] is not a text"),
        ({"type": None, "job_id": "j"}, "it has no type"),
        ({"type": float("nan"), "job_id": "j"}, "it has no type"),
        ({"job_id": "j"}, "it has no type"),
        ({"op": "from", "line": 7, "job_id": "j"}, "it has no type"),
        ({}, "it has no type"),
        ({"type": "x" * 65, "job_id": "j"}, "has 65 characters, not 1 to 64"),
        ({"type": "t", "job_id": "j", "stream_seq": 1}, "stream_seq"),
    ],
)
def test_what_the_daemon_will_refuse_is_told_with_the_place_it_comes_from(
    fake: FakeDaemon, event: dict[str, Any], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    with publishing(fake.path) as publisher:
        publisher.publish({"type": "t", "job_id": "j"})
        frame = inspect.currentframe()
        assert frame is not None
        assert publisher.publish(event), "it is for the daemon to judge"
        line = frame.f_lineno - 1
        wait_until(lambda: "the daemon will refuse" in caplog.text, "the log tells")
        assert problem in caplog.text and f"{__file__}:{line}" in caplog.text


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (None, "an event was dropped: it is not a mapping, but of type NoneType"),
        ([1], "an event was dropped: it is not a mapping, but of type list"),
        ("job_started", "an event was dropped: it is not a mapping, but of type str"),
        ({"type": "t", "job_id": "j", **{f"k{n}": n for n in range(500)}}, "an event was dropped: even shortened it is over"),
    ],
)
@pytest.mark.parametrize("is_first", [False, True])
def test_what_is_dropped_for_what_it_is_is_told_with_the_place_it_comes_from(
    fake: FakeDaemon, event: Any, problem: str, is_first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with publishing(fake.path, line_bytes_max=1000) as publisher:
        if not is_first:
            publisher.publish({"type": "t", "job_id": "j"})
            assert publisher.flush(PATIENCE)
        frame = inspect.currentframe()
        assert frame is not None
        assert not publisher.publish(event)
        line = frame.f_lineno - 1
        wait_until(lambda: problem in caplog.text, "the log tells at once")
        assert f"{__file__}:{line}" in caplog.text
        stats = publisher.stats()
        assert stats.dropped_invalid + stats.dropped_too_large == 1
        assert_all_counted(stats)


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    told = [record.getMessage() for record in caplog.records]
    return [message for message in told if "the daemon will refuse" in message]


def test_each_kind_of_mistake_is_named_though_another_is_made_all_the_time(
    fake: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    with publishing(fake.path) as publisher:
        for n in range(61):
            if n == 30:
                publisher.publish({"type": "rare kind", "job_id": "j"})
            else:
                publisher.publish({"type": "t", "job_id": f"etl/{n}"})
        wait_until(lambda: len(_told(caplog)) >= 2, "both are told at once")
        publisher.publish({"type": "t", "job_id": "etl/61"})
        wait_until(lambda: len(_told(caplog)) >= 3, "another place is another kind")
        assert publisher.close(PATIENCE)
    told = _told(caplog)
    rare = [message for message in told if "type 'rare kind' has ' ' in it" in message]
    assert len(rare) == 1 and "more like this" not in rare[0]
    assert len({message.split("published at ")[1].split(" ")[0] for message in told}) == 3
    often = [message for message in told if "etl/" in message and "etl/61" not in message]
    assert 1 <= len(often) <= 3, "one at once, the rest with a number"
    more = [int(found.group(1)) for message in often if (found := re.search(r"\((\d+) more like this\)", message))]
    assert sum(more) + len(often) == 60


def test_one_kind_of_mistake_at_one_place_is_told_at_most_so_often(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 100.0
    monkeypatch.setattr("luxcast.report.time.monotonic", lambda: clock)
    problems, report = Problems(), Report(None, lambda error: None)
    for second in range(25):
        clock = 100.0 + second
        problems.note(Problem("often", f"often {second}"), "a.py:6")
        if second == 5:
            problems.note(Problem("rare", "rare"), "a.py:8")
        report.look(Stats(), problems.all())
    assert [record.getMessage() for record in caplog.records] == [
        "often 0, published at a.py:6",
        "rare, published at a.py:8",
        "often 10, published at a.py:6 (9 more like this)",
        "often 20, published at a.py:6 (9 more like this)",
    ]


def test_kinds_of_mistakes_are_bounded(fake: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    with publishing(fake.path) as publisher:
        for n in range(KINDS_MAX + 20):
            code = compile("publisher.publish({'type': 't', 'job_id': 'a b'})", f"place-{n}", "exec")
            exec(code, {"publisher": publisher})
        assert publisher.close(PATIENCE)
    told = _told(caplog)
    assert all(any(f"place-{n}:" in message for message in told) for n in range(KINDS_MAX))
    assert "more like this or another" in told[-1] and len(told) <= KINDS_MAX + 2


def test_every_reason_of_the_daemons_refusals_is_named(fake: FakeDaemon, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "luxcast")
    report = Report(None, lambda error: None)
    for reason in ("bad_id: one", "bad_type: two", "bad_id: one"):
        report.is_refused(reason)
    report.look(Stats(published=3, refused=3), {})
    assert "3 events refused by the daemon, for: bad_id: one; bad_type: two" in caplog.text
    report.look(Stats(published=4, refused=4), {}, is_last=True)
    report.is_refused("bad_id: three")
    report.look(Stats(published=5, refused=5), {}, is_last=True)
    assert [record.getMessage().split(", for: ")[1] for record in caplog.records[1:]] == [
        "bad_id: one; bad_type: two",
        "bad_id: three",
    ]


class _Word(Enum):
    DONE = "done"


@pytest.mark.parametrize("kind", [_Word.DONE, b"done", UserString("done"), numpy.str_("done")])
def test_a_type_may_be_what_becomes_a_text(fake: FakeDaemon, kind: object) -> None:
    with publishing(fake.path) as publisher:
        for n in range(2):
            assert publisher.publish({"type": kind, "job_id": "j", "n": n})
        assert publisher.flush(PATIENCE)
        assert [event["type"] for event in fake.events] == ["done", "done"]
        assert publisher.stats().delivered == 2


def test_every_id_that_is_none_is_known_and_no_other() -> None:
    cases = json.loads((Path(__file__).parents[3] / "tests/cases/ids.json").read_text())
    heads = Heads()
    for case in cases:
        if case["value"] == 5:  # a number that was counted becomes its text
            continue
        for name in ("job_id", "flow_id"):
            event = {"type": "t", name: case["value"]}
            assert (heads.settle(event, "t").problem is None) == case["is_id"], case
            assert heads.is_good(event, "t") == case["is_id"], case


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
    with publishing(fake.path) as publisher:
        publisher.publish(an_event(0))
        assert publisher.flush(PATIENCE)
        before = os.times()
        time.sleep(1.0)
        after = os.times()
        assert after.user + after.system - before.user - before.system < 0.5
