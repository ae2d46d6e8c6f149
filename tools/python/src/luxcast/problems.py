"""What is wrong with events, so that the log can name each kind of mistake and where it is made."""

from __future__ import annotations

from typing import NamedTuple

KINDS_MAX = 64
"""Kinds that are kept apart: a program is rarely wrong in more places at once. All further ones count as one kind."""


class Problem(NamedTuple):
    kind: str
    """The rule that the event breaks: the same for every value that breaks it."""
    words: str
    """For people, with the value."""


class Noted(NamedTuple):
    """All problems of one kind from one place."""

    number: int
    last: str
    """What was wrong with the last event, and where it was published."""
    is_mixed: bool
    """Whether these are of several kinds that found no room of their own."""


Key = tuple[str, str]
"""Kind and place."""

_OTHERS: Key = ("", "")


class Problems:
    """Counts by kind and place: at most `KINDS_MAX`, and one for all others."""

    def __init__(self) -> None:
        self._noted: dict[Key, Noted] = {}

    def note(self, problem: Problem, place: str) -> bool:
        """Returns True for the first of its kind from that place."""
        key = (problem.kind, place)
        if key not in self._noted and len(self._noted) >= KINDS_MAX:
            key = _OTHERS
        before = self._noted.get(key)
        number = before.number + 1 if before is not None else 1
        self._noted[key] = Noted(number, f"{problem.words}, published at {place}", key == _OTHERS)
        return before is None

    def all(self) -> dict[Key, Noted]:
        """A snapshot of the counts."""
        return self._noted.copy()
