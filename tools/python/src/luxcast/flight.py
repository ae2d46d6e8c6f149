"""Lines that were sent and that the daemon has not yet acknowledged, with their numbers."""

from __future__ import annotations

from collections import deque

_NOTHING = b"\n"
"""Stands in the place of a refused line, which keeps the numbers of those behind it when all are sent again."""


class Flight:
    """Numbers count the lines of one publisher name from 1, over all its connections, without holes."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque()
        self._first = 1
        """The number of the oldest line here, or of the next one to come."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def first(self) -> int:
        return self._first

    def add(self, lines: list[bytes]) -> None:
        self._lines.extend(lines)
        self.bytes += sum(map(len, lines))

    def acknowledge(self, number: int) -> int:
        """Lets go all up to this number; tells how many of them had not been refused."""
        delivered = 0
        while self._lines and self._first <= number:
            line = self._lines.popleft()
            self.bytes -= len(line)
            self._first += 1
            delivered += line is not _NOTHING
        return delivered

    def refuse(self, number: int) -> bool:
        """Whether this line was here, and not yet known to be refused."""
        place = number - self._first
        if not 0 <= place < len(self._lines) or self._lines[place] is _NOTHING:
            return False
        self.bytes += len(_NOTHING) - len(self._lines[place])
        self._lines[place] = _NOTHING
        return True

    def resume(self, accepted: int) -> int:
        """Begins again with a daemon that has taken lines up to `accepted`; returns what `acknowledge` does."""
        delivered = self.acknowledge(accepted)
        self._first = max(self._first, accepted + 1)
        return delivered

    def lines(self) -> bytes:
        """All that is to be sent again."""
        return b"".join(self._lines)
