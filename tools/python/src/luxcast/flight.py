"""Lines that were sent and that the daemon has not yet acknowledged, with their numbers."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Optional

_NOTHING = b"\n"
"""Stands in the place of a refused line, which keeps the numbers of those behind it when all are sent again."""


class Acknowledged(NamedTuple):
    delivered: int
    unnamed: int
    """Refused without an answer of their own: the daemon keeps few of these for a publisher."""


class Flight:
    """Numbers count the lines of one publisher name from 1, over all its connections, without holes."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._first = 1
        """The number of the oldest line here, or of the next one to come."""
        self._named: deque[int] = deque()
        """Lines that this connection was told are refused, beyond those that it acknowledged."""
        self._refused = 0
        """How many lines it refused, by its last acknowledgement."""
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
        """Lets go all up to this number, of which the connection refused so many from its beginning on, if it says so."""
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
        """Whether this line was here, and not yet known to be refused."""
        place = number - self._first
        if not 0 <= place < len(self._lines) or self._lines[place] is _NOTHING:
            return False
        self.bytes += len(_NOTHING) - len(self._lines[place])
        self._lines[place] = _NOTHING
        self._named.append(number)
        return True

    def resume(self, accepted: int) -> int:
        """Begins again with a daemon that has gone up to `accepted`; tells how many lines that lets go, not known to be
        refused. Whether it refused one of these was told to the connection that was lost."""
        self._named.clear()
        self._refused = 0
        let_go = self.acknowledge(accepted).delivered
        self._first = max(self._first, accepted + 1)
        return let_go

    def lines(self) -> bytes:
        """All that is to be sent again."""
        return b"".join(self._lines)
