"""Turns an event into a line of the feed. Nothing in an event makes this raise, and the daemon accepts the result.

Nearly every event takes the short way: one call into the C encoder. What the encoder cannot do, or the daemon would
refuse, is first turned into plain values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple, Optional

from luxcast.values import OMITTED, plain, shown

DEPTH_MAX = 64
"""How deep the daemon lets a line nest; the event itself is level 1."""

NODES_MAX = 200_000
"""Values visited when an event is made plain: one that contains itself must not take for ever."""


class Line(NamedTuple):
    """A line with its newline, or None if none is short enough."""

    data: Optional[bytes]
    is_cut: bool


class _Limits(NamedTuple):
    characters_max: int
    items_max: int


_WHOLE = _Limits(10**9, 10**9)
_CUTS = (_Limits(4_000, 200), _Limits(200, 20))


def encode(event: dict[str, Any], line_bytes_max: int) -> Line:
    """Returns the line of an event, of at most `line_bytes_max` bytes without its newline."""
    try:
        data = (_to_json(event) + "\n").encode()
        is_good = not _is_too_deep(data)
    except Exception:
        is_good = False
    if is_good and len(data) <= line_bytes_max + 1:
        return Line(data, False)
    return _with_effort(event, line_bytes_max)


def _with_effort(event: dict[str, Any], line_bytes_max: int) -> Line:
    """The same with every value made plain, and with long values cut only if the line would be too long."""
    for limits in (_WHOLE, *_CUTS):
        try:
            text = _to_json(_Plain(limits).value(event, 1))
        except Exception:
            continue
        data = (text + "\n").encode("utf-8", "replace")
        if len(data) <= line_bytes_max + 1:
            return Line(data, limits is not _WHOLE)
    return Line(None, False)


_to_json = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain
).encode


def _is_too_deep(data: bytes) -> bool:
    """Whether a line nests deeper than the daemon allows: removes innermost pairs of brackets, level by level."""
    if data.count(b"{") + data.count(b"[") <= DEPTH_MAX:
        return False
    brackets = _TEXT.sub(b"", data).translate(_SQUARE, _NO_BRACKETS)
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_SQUARE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class _Plain:
    """Turns values into ones that JSON and the daemon accept, at every level."""

    def __init__(self, limits: _Limits) -> None:
        self._limits = limits
        self._nodes = 0
        self._above: set[int] = set()

    def value(self, value: object, depth: int) -> object:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            return OMITTED
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, float):
            return value if isfinite(value) else repr(value)
        if isinstance(value, int):
            return self._integer(value)
        if not isinstance(value, (Mapping, list, tuple)):
            return self._odd(value, depth)
        if depth > DEPTH_MAX or id(value) in self._above:
            return OMITTED
        self._above.add(id(value))
        try:
            if isinstance(value, Mapping):
                return self._object(value, depth)
            return self._list(value, depth)
        except Exception:
            return self._text(shown(value))
        finally:
            self._above.discard(id(value))

    def _odd(self, value: object, depth: int) -> object:
        """Step by step, but not for ever: a value may turn into itself, or into others again and again."""
        if id(value) in self._above or len(self._above) > 3 * DEPTH_MAX:
            return OMITTED
        self._above.add(id(value))
        try:
            return self.value(plain(value), depth)
        finally:
            self._above.discard(id(value))

    def _text(self, text: str) -> str:
        if len(text) > self._limits.characters_max:
            return text[: self._limits.characters_max] + OMITTED
        return text

    @staticmethod
    def _integer(value: int) -> object:
        """The number itself, unless it has more digits than Python writes."""
        try:
            str(int(value))
        except ValueError:
            return f"<int of {value.bit_length()} bits>"
        return int(value)

    def _object(self, value: Mapping[Any, object], depth: int) -> dict[str, object]:
        items = list(value.items())
        # The event itself keeps all members: it needs its ids.
        items_max = self._limits.items_max if depth > 1 else len(items)
        members = {self._key(key): self.value(member, depth + 1) for key, member in items[:items_max]}
        if len(items) > items_max:
            members[OMITTED] = len(items) - items_max
        return members

    def _key(self, key: object) -> str:
        if isinstance(key, str):
            return self._text(key)
        if key is None or isinstance(key, bool):
            return json.dumps(key)
        step = key if isinstance(key, (int, float, tuple)) else plain(key)
        if isinstance(step, str):
            return self._text(step)
        if isinstance(step, int):
            return str(self._integer(step))
        return self._text(shown(step if isinstance(step, float) else key))

    def _list(self, value: list[object] | tuple[object, ...], depth: int) -> list[object]:
        items = list(value)
        members = [self.value(member, depth + 1) for member in items[: self._limits.items_max]]
        if len(items) > self._limits.items_max:
            members.append(OMITTED)
        return members
