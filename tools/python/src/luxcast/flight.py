"""Lines that were sent and not yet acknowledged by the daemon, with their numbers."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import NamedTuple, Optional

_NOTHING = b"\n"
"""Takes the place of a refused line, so that later lines keep their numbers when all are sent again."""


class Acknowledged(NamedTuple):
    delivered: int
    unnamed: int
    """A line refused without an answer of its own: the daemon keeps few answers for a publisher."""


class Batch(NamedTuple):
    """Lines that are sent together."""

    first: int
    """The number of the first line."""
    last: int
    events: int
    """How many of them are not empty."""
    data: bytes


class Flight:
    """Numbers count the lines of one publisher name from 1, over all its connections, without gaps."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._first = 1
        """The number of the oldest line here, or of the next one."""
        self._named: deque[int] = deque()
        """Lines reported as refused on this connection, beyond those that it acknowledged."""
        self._refused = 0
        """How many lines the connection refused, by its last acknowledgement."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def first(self) -> int:
        return self._first

    def add(self, lines: list[bytes]) -> None:
        self._lines.extend(lines)
        self.bytes += sum(map(len, lines))

    def acknowledge(self, number: int, refused: Optional[int] = None) -> Acknowledged:
        """Releases all lines up to this number. `refused` is how many of them the connection has refused from its
        start, if known."""
        accepted = 0
        while self._lines and self._first <= number:
            line = self._lines.popleft()
            self.bytes -= len(line)
            self._first += 1
            accepted += line is not _NOTHING
        named = 0
        while self._named and self._named[0] <= number:
            self._named.popleft()
            named += 1
        if refused is None:
            return Acknowledged(accepted, 0)
        unnamed = min(max(refused - self._refused - named, 0), accepted)
        self._refused = max(self._refused, refused)
        return Acknowledged(accepted - unnamed, unnamed)

    def refuse(self, number: int) -> bool:
        """Whether this line was here and not yet known as refused."""
        place = number - self._first
        if not 0 <= place < len(self._lines) or self._lines[place] is _NOTHING:
            return False
        self.bytes += len(_NOTHING) - len(self._lines[place])
        self._lines[place] = _NOTHING
        self._named.append(number)
        return True

    def resume(self, accepted: int) -> int:
        """Starts over with a daemon that has taken lines up to `accepted`. Returns how many lines this releases
        that were not known as refused: a refusal may have been lost with the old connection."""
        self._named.clear()
        self._refused = 0
        let_go = self.acknowledge(accepted).delivered
        self._first = max(self._first, accepted + 1)
        return let_go

    def lines(self) -> bytes:
        """All lines to send again."""
        return b"".join(self._lines)

    def first_lines(self, bytes_max: int, lines_max: int) -> list[bytes]:
        """The oldest ones; the first of them may have any length."""
        lines: list[bytes] = []
        size = 0
        for line in islice(self._lines, lines_max):
            size += len(line)
            if lines and size > bytes_max:
                break
            lines.append(line)
        return lines

    @staticmethod
    def events(lines: list[bytes]) -> int:
        """How many of them are not known as refused."""
        return sum(line is not _NOTHING for line in lines)
