"""The head of an event, which the daemon checks: type, ids and time."""

from __future__ import annotations

import re
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, NamedTuple, Optional

from luxcast.problems import Problem
from luxcast.values import plain

ID_CHARACTERS_MAX = 128
TYPE_CHARACTERS_MAX = 64

BITS_MAX = 512
"""Limit for a number as an id: a larger one has more digits than an id may have. Python refuses to write very
large numbers."""

_OTHER = re.compile(r"[^A-Za-z0-9_.:-]")

SHOWN_MAX = 200
"""How many characters of a bad id are shown."""

KNOWN_MAX = 4_096
"""How many heads are remembered as good."""


class Settled(NamedTuple):
    event: dict[str, Any]
    problem: Optional[Problem]
    """Why the daemon will refuse an event; None if its head is good."""


class Wrong(NamedTuple):
    rule: str
    """The same for every value that breaks the rule."""
    words: str


class Heads:
    """Remembers heads that are good as they are: most events have one of these."""

    def __init__(self) -> None:
        self._known: set[tuple[object, object, object]] = set()

    def is_good(self, event: dict[str, Any], kind: object) -> bool:
        """Whether the event is known to need no change."""
        try:
            return (
                (kind, event.get("job_id"), event.get("flow_id")) in self._known
                and event.get("timestamp").__class__ is not Decimal
                and "stream_seq" not in event
            )
        except TypeError:  # a list as an id or as the type
            return False

    def settle(self, event: dict[str, Any], kind: object) -> Settled:
        """Turns ids into texts and makes times readable, in a copy if anything changes, and finds what the daemon
        will refuse."""
        settled = _with_effort(event, kind)
        if settled.problem is None and settled.event is event:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known.add((kind, event.get("job_id"), event.get("flow_id")))
        return settled


def kind_of(value: object) -> object:
    """An event's type as the line will have it: a text, unless the daemon accepts no such type."""
    if isinstance(value, Enum):
        value = value.value
    if _is_no_number(value):
        return None
    return value if value is None or isinstance(value, (str, bool, int, float)) else plain(value)


def _with_effort(event: dict[str, Any], kind: object) -> Settled:
    changed = {name: _id(event[name]) for name in ("job_id", "flow_id") if not _is_plain(event.get(name))}
    # A line without `type` may be one of the feed's control lines, which an event must never be.
    if kind is not event.get("type") or "type" not in event:
        changed["type"] = kind
    if isinstance(event.get("timestamp"), Decimal):  # a text of digits is no time
        changed["timestamp"] = float(event["timestamp"])
    settled = {**event, **changed} if changed else event
    return Settled(settled, _problem(settled))


def _is_no_number(value: object) -> bool:
    """NaN, which often marks missing values in tables, or an infinity: as a text it would name something."""
    return isinstance(value, float) and not isfinite(value)


def _is_plain(value: object) -> bool:
    return value.__class__ is str or value is None


def _id(value: object) -> object:
    """The text of a value that people use as an id: a count, a UUID, a member of an enumeration."""
    if _is_no_number(value):
        return None
    if isinstance(value, (str, bool, float)):
        return value
    if isinstance(value, Enum):
        return _id(value.value)
    step = plain(value)
    if isinstance(step, int) and not isinstance(step, bool):
        return str(step) if step.bit_length() < BITS_MAX else value
    return step if isinstance(step, str) else value


def _problem(event: dict[str, Any]) -> Optional[Problem]:
    if "stream_seq" in event:
        return Problem("stream_seq", "stream_seq is assigned by the daemon")
    if event["type"] is None:
        return Problem("no type", "it has no type")
    if event.get("job_id") is None and event.get("flow_id") is None:
        return Problem("no id", "it has neither job_id nor flow_id")
    checks = (("type", TYPE_CHARACTERS_MAX), ("job_id", ID_CHARACTERS_MAX), ("flow_id", ID_CHARACTERS_MAX))
    for name, characters_max in checks:
        value = event.get(name)
        if value is not None and (wrong := what_is_wrong(value, characters_max)):
            return Problem(f"{name}: {wrong.rule}", f"{name} {_shown(value)} {wrong.words}")
    return None


def _shown(value: object) -> str:
    try:
        return ascii(value)[:SHOWN_MAX]
    except Exception:
        return f"of {type(value).__name__}"


def what_is_wrong(value: object, characters_max: int = ID_CHARACTERS_MAX) -> Optional[Wrong]:
    """With an id or a type; None if the daemon accepts it."""
    if not isinstance(value, str):
        return Wrong("text", "is not a text")
    if not 1 <= len(value) <= characters_max:
        return Wrong("length", f"has {len(value)} characters, not 1 to {characters_max}")
    other = _OTHER.search(value)
    if other is not None:
        words = f"has {ascii(other.group())} in it, which is not one of A-Z a-z 0-9 _ . : -"
        return Wrong("characters", words)
    return None
