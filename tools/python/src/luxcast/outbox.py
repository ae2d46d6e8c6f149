"""The bounded buffer between the engine's threads and the sender: waiting lines, and lines in flight.

Nothing in here waits for anything except the lock, and no thread holds the lock while it talks to the daemon.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Optional

from luxcast.bell import Bell
from luxcast.flight import Batch, Flight
from luxcast.problems import Key, Noted, Problem, Problems
from luxcast.stats import Stats
from luxcast.values import shown

METRICS, EXECUTION, LIFECYCLE = 0, 1, 2
"""Ranks of events: when the buffer is full, the lowest rank is dropped first."""

_RANKS = {"metrics": METRICS, "execution_event": EXECUTION}

FLIGHT_BYTES_MAX = 1 << 20
"""Bytes sent ahead of acknowledgements: what the socket and one turn of the daemon hold. Lines in flight cannot
make room for others, so it is also at most a quarter of the buffer."""


def rank(kind: object) -> int:
    """The rank of an event of this type."""
    return _RANKS.get(kind, LIFECYCLE) if isinstance(kind, str) else LIFECYCLE


_Waiting = tuple[int, bytes]
"""When the line was put, and the line. A plain tuple: creating an object costs the engine a twentieth of
`publish`."""


class Outbox:
    """At most `events_max` lines of `bytes_max` bytes in all, counted from `put` until acknowledged or given up."""

    def __init__(self, events_max: int, bytes_max: int) -> None:
        self.bell = Bell()
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._flight_bytes_max = min(FLIGHT_BYTES_MAX, bytes_max // 4)
        # Reentrant, since a signal handler may publish in a thread that is inside `put`.
        self._lock = threading.RLock()
        self._is_putting = False
        self._put_meanwhile: deque[tuple[bytes, int, bool]] = deque()
        self._settled = threading.Condition(self._lock)
        self._lanes: tuple[deque[_Waiting], ...] = (deque(), deque(), deque())
        self._lanes_bytes = 0
        self._arrivals = 0
        self._flight = Flight()
        self._is_sender_asleep = False
        self._is_closing = False
        self._is_stopped = False
        self._published = 0
        self._delivered = 0
        self._presumed = 0
        self._refused = 0
        self._dropped = [0, 0, 0]
        self._too_large = 0
        self._invalid = 0
        self._after_close = 0
        self._cut = 0
        self._connections = 0
        self._faults = 0
        self._sender_faults = 0
        self._last_fault = ""
        self.is_sender_failing = False
        """Whether the sender has failed and has not reached a daemon since."""
        self._problems = Problems()

    def put(self, line: bytes, rank: int, is_cut: bool = False) -> bool:
        """Takes in a line, and drops older ones of the same rank or a lower one if needed."""
        with self._lock:
            if self._is_putting:
                # A signal handler has called from within this method, which will do the rest.
                self._put_meanwhile.append((line, rank, is_cut))
                return True
            self._is_putting = True
            try:
                is_kept = self._put(line, rank, is_cut)
                while self._put_meanwhile:
                    self._put(*self._put_meanwhile.popleft())
                return is_kept
            finally:
                self._is_putting = False

    def _put(self, line: bytes, rank: int, is_cut: bool) -> bool:
        self._published += 1
        if self._is_closing:
            self._after_close += 1
            return False
        if not self._has_room(len(line)) and not self._make_room(len(line), rank):
            self._dropped[rank] += 1
            return False
        self._cut += is_cut
        self._arrivals += 1
        self._lanes_bytes += len(line)
        self._lanes[rank].append((self._arrivals, line))
        if self._is_sender_asleep:
            self._is_sender_asleep = False
            self.bell.ring()
        return True

    @property
    def _waiting(self) -> int:
        """Lines here, in flight or not."""
        metrics, execution_events, lifecycle = self._lanes
        return len(metrics) + len(execution_events) + len(lifecycle) + len(self._flight)

    def _has_room(self, line_bytes: int) -> bool:
        return (
            self._waiting < self._events_max
            and self._lanes_bytes + self._flight.bytes + line_bytes <= self._bytes_max
        )

    def _make_room(self, line_bytes: int, rank: int) -> bool:
        if line_bytes + self._flight.bytes > self._bytes_max:
            return False
        for lowest in range(rank + 1):
            lane = self._lanes[lowest]
            while lane:
                self._lanes_bytes -= len(lane.popleft()[1])
                self._dropped[lowest] += 1
                if self._has_room(line_bytes):
                    return True
        return False

    def count_too_large(self) -> None:
        with self._lock:
            self._published += 1
            self._too_large += 1

    def count_invalid(self) -> None:
        with self._lock:
            self._published += 1
            self._invalid += 1

    def count_fault(self) -> None:
        with self._lock:
            self._faults += 1

    def count_connection(self) -> None:
        with self._lock:
            self._connections += 1
            self.is_sender_failing = False

    def count_sender_fault(self, error: BaseException, is_failing: bool = True) -> None:
        """Notes an unexpected failure in the sender's thread; `is_failing` if it prevents sending."""
        with self._lock:
            self._sender_faults += 1
            self._last_fault = shown(error)
            self.is_sender_failing = self.is_sender_failing or is_failing

    def note_problem(self, problem: Problem, place: str) -> None:
        """Notes an event that the daemon will refuse, or that was dropped because it is bad. The log gets a new
        kind at once."""
        with self._lock:
            if self._problems.note(problem, place) or self._is_sender_asleep:
                self._is_sender_asleep = False
                self.bell.ring()

    def problems(self) -> dict[Key, Noted]:
        """What was wrong with events so far."""
        with self._lock:
            return self._problems.all()

    def take(self, bytes_max: int) -> bytes:
        """Takes the next lines in the order of `put`, which are in flight from now on; none while enough are."""
        with self._lock:
            lines: list[bytes] = []
            size = 0
            while (lane := self._next_lane()) and self._may_fly(size, len(lane[0][1])) and size < bytes_max:
                line = lane.popleft()[1]
                lines.append(line)
                size += len(line)
                self._lanes_bytes -= len(line)
            self._flight.add(lines)
            return b"".join(lines)

    @property
    def can_take(self) -> bool:
        """Whether `take` would return something."""
        with self._lock:
            lane = self._next_lane()
            return lane is not None and self._may_fly(0, len(lane[0][1]))

    def _next_lane(self) -> Optional[deque[_Waiting]]:
        """The lane of the oldest line."""
        return min((lane for lane in self._lanes if lane), key=_arrival, default=None)

    def _may_fly(self, taken: int, line_bytes: int) -> bool:
        """Whether a line may join those taken and in flight; a single one may have any length."""
        others = self._flight.bytes + taken
        return others == 0 or others + line_bytes <= self._flight_bytes_max

    @property
    def can_send(self) -> bool:
        """Whether `batch` would return something."""
        with self._lock:
            return len(self._flight) > 0 or self._next_lane() is not None

    @property
    def has_flight(self) -> bool:
        """Whether lines were sent and are not settled."""
        with self._lock:
            return len(self._flight) > 0

    @property
    def last_line(self) -> int:
        """The greatest number of a line that was sent."""
        with self._lock:
            return self._flight.first + len(self._flight) - 1

    def batch(self, bytes_max: int, lines_max: int) -> Optional[Batch]:
        """The oldest lines in flight; without any, the next lines, which are in flight from now on. The first may
        have any length."""
        with self._lock:
            if not self._flight:
                self.take(bytes_max)
            lines = self._flight.first_lines(bytes_max, lines_max)
            first = self._flight.first
            return Batch(first, first + len(lines) - 1, Flight.events(lines), b"".join(lines)) if lines else None

    def resume(self, accepted: int) -> tuple[int, bytes]:
        """Starts a new connection to a daemon that knows lines up to `accepted`. Returns the number of the next
        line, and the lines in flight, to send again."""
        with self._lock:
            presumed = self._flight.resume(accepted)
            self._presumed += presumed
            self._delivered += presumed
            self._settled.notify_all()
            return self._flight.first, self._flight.lines()

    def acknowledge(self, number: int, refused: Optional[int] = None) -> None:
        """The daemon has settled all lines up to this one, and refused this many on this connection, if it says
        so."""
        with self._lock:
            delivered, unnamed = self._flight.acknowledge(number, refused)
            self._delivered += delivered
            self._refused += unnamed
            self._settled.notify_all()

    def refuse(self, number: int) -> None:
        with self._lock:
            self._refused += self._flight.refuse(number)

    def fall_asleep(self) -> bool:
        """Whether nothing waits to be sent; if so, the next `put` rings."""
        with self._lock:
            self._is_sender_asleep = not any(self._lanes)
            return self._is_sender_asleep

    def wake_up(self) -> None:
        with self._lock:
            self._is_sender_asleep = False

    def waits_for_more_than(self, size: int) -> bool:
        """Whether more than this many bytes wait to be sent."""
        return self._lanes_bytes > size

    @property
    def is_closing(self) -> bool:
        return self._is_closing

    @property
    def is_stopped(self) -> bool:
        """Whether the sender must end at once."""
        return self._is_stopped

    @property
    def is_empty(self) -> bool:
        with self._lock:
            return self._waiting == 0

    def wait_until_empty(self, seconds: float) -> bool:
        """Whether all lines were acknowledged within that time."""
        with self._settled:
            return self._settled.wait_for(lambda: self.is_empty, seconds)

    def close(self) -> None:
        """Takes in no more lines; those here may still be sent."""
        with self._lock:
            self._is_closing = True
            self.bell.ring()

    def stop(self) -> int:
        """Gives up what is still here; returns the number of lines."""
        with self._lock:
            self._is_closing = self._is_stopped = True
            rest = self._waiting
            self._after_close += rest
            for lane in self._lanes:
                lane.clear()
            self._lanes_bytes = 0
            self._flight = Flight()
            self._settled.notify_all()
            self.bell.ring()
        return rest

    def close_bell(self) -> None:
        """Called when the sender has ended. Under the lock: the descriptor may then belong to another file, which
        no ring may hit."""
        with self._lock:
            self.bell.close()

    def stats(self) -> Stats:
        with self._lock:
            metrics, execution_events, lifecycle = self._dropped
            return Stats(
                published=self._published,
                delivered=self._delivered,
                presumed=self._presumed,
                refused=self._refused,
                dropped_metrics=metrics,
                dropped_execution_events=execution_events,
                dropped_lifecycle=lifecycle,
                dropped_too_large=self._too_large,
                dropped_invalid=self._invalid,
                dropped_closed=self._after_close,
                waiting=self._waiting,
                waiting_bytes=self._lanes_bytes + self._flight.bytes,
                cut=self._cut,
                connections=self._connections,
                faults=self._faults,
                sender_faults=self._sender_faults,
                last_fault=self._last_fault,
            )


def _arrival(lane: deque[_Waiting]) -> int:
    return lane[0][0]
