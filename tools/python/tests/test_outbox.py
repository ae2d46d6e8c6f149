"""What is dropped first, and that nothing goes uncounted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from luxcast.outbox import EXECUTION, LIFECYCLE, METRICS, Outbox, rank


@contextmanager
def _outbox(events_max: int, bytes_max: int) -> Iterator[Outbox]:
    outbox = Outbox(events_max, bytes_max)
    try:
        yield outbox
    finally:
        outbox.close_bell()


def _put(outbox: Outbox, *lines: tuple[str, int]) -> list[bool]:
    return [outbox.put(text.encode(), rank) for text, rank in lines]


def test_types_have_ranks() -> None:
    kinds = ["metrics", "execution_event", "job_started", "routine_failed", "breakpoint_hit", "anything"]
    assert [rank(kind) for kind in kinds] == [METRICS, EXECUTION, LIFECYCLE, LIFECYCLE, LIFECYCLE, LIFECYCLE]


def test_lines_leave_in_the_order_they_came_whatever_their_rank() -> None:
    with _outbox(10, 1000) as outbox:
        _put(outbox, ("a", LIFECYCLE), ("b", METRICS), ("c", EXECUTION), ("d", LIFECYCLE), ("e", METRICS))
        assert outbox.take(1000) == b"abcde"


def test_a_full_buffer_drops_metrics_then_execution_events_then_the_oldest_of_the_rest() -> None:
    with _outbox(4, 1000) as outbox:
        _put(outbox, ("j", LIFECYCLE), ("m", METRICS), ("e", EXECUTION), ("f", EXECUTION))
        assert _put(outbox, ("k", LIFECYCLE)) == [True]
        assert outbox.stats().dropped_metrics == 1
        assert _put(outbox, ("l", LIFECYCLE), ("n", LIFECYCLE)) == [True, True]
        assert outbox.stats().dropped_execution_events == 2
        assert _put(outbox, ("o", LIFECYCLE)) == [True]
        assert outbox.stats().dropped_lifecycle == 1
        assert outbox.take(1000) == b"klno"


def test_a_lesser_event_never_displaces_a_greater_one() -> None:
    with _outbox(2, 1000) as outbox:
        _put(outbox, ("j", LIFECYCLE), ("k", LIFECYCLE))
        assert _put(outbox, ("e", EXECUTION), ("m", METRICS)) == [False, False]
        stats = outbox.stats()
        assert (stats.dropped_execution_events, stats.dropped_metrics, stats.dropped_lifecycle) == (1, 1, 0)
        assert outbox.take(1000) == b"jk"


def test_among_equals_the_newest_is_kept() -> None:
    with _outbox(2, 1000) as outbox:
        _put(outbox, ("1", METRICS), ("2", METRICS), ("3", METRICS))
        assert outbox.take(1000) == b"23"


def test_bytes_are_bounded_too_and_what_is_in_flight_counts() -> None:
    with _outbox(100, 40) as outbox:
        _put(outbox, *[("x" * 5, EXECUTION)] * 8)
        assert outbox.stats().waiting_bytes == 40
        assert outbox.take(10) == b"x" * 10
        assert _put(outbox, ("y" * 30, LIFECYCLE)) == [True]
        stats = outbox.stats()
        assert (stats.waiting, stats.waiting_bytes, stats.dropped_execution_events) == (3, 40, 6)
        assert _put(outbox, ("z" * 31, LIFECYCLE)) == [False], "lines in flight make no room"


def test_no_more_is_in_flight_than_a_quarter_of_the_buffer_or_one_line() -> None:
    with _outbox(100, 400) as outbox:
        _put(outbox, ("x" * 150, EXECUTION), *[("y" * 30, EXECUTION)] * 5)
        assert outbox.take(1000) == b"x" * 150
        assert outbox.take(1000) == b"" and not outbox.can_take
        outbox.acknowledge(1)
        assert outbox.take(1000) == b"y" * 90
        outbox.acknowledge(2)
        assert outbox.take(1000) == b"y" * 30


def test_a_new_connection_repeats_what_was_not_accepted_and_goes_on_counting() -> None:
    with _outbox(100, 1000) as outbox:
        _put(outbox, ("a\n", LIFECYCLE), ("b\n", LIFECYCLE), ("c\n", LIFECYCLE))
        outbox.take(1000)
        outbox.acknowledge(1)
        outbox.refuse(2)
        assert outbox.resume(1) == (2, b"\nc\n"), "a refused line leaves its number behind"
        assert outbox.resume(0) == (2, b"\nc\n"), "what was acknowledged is not repeated, even if it is forgotten"
        assert outbox.resume(3) == (4, b"")
        stats = outbox.stats()
        assert (stats.published, stats.delivered, stats.refused, stats.waiting) == (3, 2, 1, 0)


def test_a_line_is_refused_once() -> None:
    with _outbox(100, 1000) as outbox:
        _put(outbox, ("a\n", LIFECYCLE))
        outbox.take(1000)
        for line in (1, 1, 0, 2, 77):
            outbox.refuse(line)
        assert outbox.stats().refused == 1


def test_refusals_beyond_those_that_are_named_are_counted() -> None:
    with _outbox(100, 1000) as outbox:
        _put(outbox, *[(f"{n}\n", LIFECYCLE) for n in range(10)])
        outbox.take(1000)
        outbox.refuse(2)
        outbox.refuse(6)  # told ahead of the acknowledgement that covers it
        outbox.acknowledge(5, refused=3)
        assert (outbox.stats().delivered, outbox.stats().refused) == (2, 4), "2 and 6 by name, two of 1 to 5 without"
        outbox.acknowledge(6, refused=4)
        assert (outbox.stats().delivered, outbox.stats().refused) == (2, 4)
        outbox.acknowledge(10, refused=7)
        stats = outbox.stats()
        assert (stats.delivered, stats.refused, stats.waiting) == (3, 7, 0)


def test_each_connection_counts_its_own_refusals() -> None:
    with _outbox(100, 1000) as outbox:
        _put(outbox, *[(f"{n}\n", LIFECYCLE) for n in range(8)])
        outbox.take(1000)
        outbox.acknowledge(3, refused=2)
        outbox.refuse(4)
        assert outbox.resume(3) == (4, b"\n4\n5\n6\n7\n")
        outbox.acknowledge(6, refused=1)
        outbox.acknowledge(8, refused=1)
        stats = outbox.stats()
        assert (stats.delivered, stats.refused, stats.waiting) == (1 + 3, 2 + 1 + 1, 0)


def test_a_daemon_that_counts_in_no_sensible_way_makes_no_nonsense() -> None:
    with _outbox(100, 1000) as outbox:
        _put(outbox, *[(f"{n}\n", LIFECYCLE) for n in range(4)])
        outbox.take(1000)
        outbox.acknowledge(2, refused=99)
        outbox.acknowledge(3, refused=-5)
        outbox.acknowledge(4)
        stats = outbox.stats()
        assert (stats.delivered, stats.refused, stats.published) == (2, 2, 4)


def test_what_only_a_later_connection_told_is_said_to_be_presumed() -> None:
    with _outbox(100, 1000) as outbox:
        _put(outbox, *[(f"{n}\n", LIFECYCLE) for n in range(6)])
        outbox.take(1000)
        outbox.acknowledge(2, refused=0)
        outbox.refuse(3)
        outbox.resume(5)
        stats = outbox.stats()
        assert (stats.delivered, stats.presumed, stats.refused, stats.waiting) == (4, 2, 1, 1)


def test_after_the_end_everything_is_counted_as_such() -> None:
    with _outbox(100, 1000) as outbox:
        _put(outbox, ("a", LIFECYCLE), ("b", METRICS))
        outbox.take(1)
        outbox.close()
        assert _put(outbox, ("c", LIFECYCLE)) == [False]
        assert outbox.stop() == 2
        stats = outbox.stats()
        assert (stats.published, stats.dropped_closed, stats.waiting) == (3, 3, 0)


def test_a_signal_handler_may_put_out_of_the_middle_of_a_put(monkeypatch: pytest.MonkeyPatch) -> None:
    with _outbox(3, 1000) as outbox:
        assert outbox.fall_asleep()
        handled = [b"b", b"c", b"d"]
        monkeypatch.setattr(outbox.bell, "ring", lambda: _put(outbox, *((line.decode(), LIFECYCLE) for line in handled)))
        assert _put(outbox, ("a", EXECUTION)) == [True]
        assert outbox.take(1000) == b"bcd", "it came in behind, and made room by the rules"
        stats = outbox.stats()
        assert (stats.published, stats.dropped_execution_events, stats.waiting_bytes) == (4, 1, 3)
