"""What JSON has no place for looks as people who write JSON expect."""

from __future__ import annotations

import array
import collections
import dataclasses
import enum
import fractions
import ipaddress
import json
import os
import pathlib
import time
import types
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from datetime import time as clock
from decimal import Decimal
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import numpy
import pytest

from luxcast.encode import encode


class Color(enum.Enum):
    RED = "red"
    ODD = 1


class Level(enum.IntEnum):
    HIGH = 3


class Named(str, enum.Enum):
    A = "a"


class Bits(enum.Flag):
    ONE = 1
    TWO = 2


class Pair(NamedTuple):
    left: int
    right: object


@dataclasses.dataclass
class Order:
    number: int
    price: Decimal
    at: object = None
    parts: list[object] = dataclasses.field(default_factory=list)


class Model:
    """As those of pydantic."""

    def model_dump(self) -> dict[str, object]:
        return {"id": _ID, "color": Color.RED}


class Attrs:
    """As the classes of attrs."""

    __attrs_attrs__ = (types.SimpleNamespace(name="x"), types.SimpleNamespace(name="y"))

    def __init__(self) -> None:
        self.x, self.y = 1, {2}


class Remote:
    """Answers whatever it is asked for, as a proxy of something far away does."""

    asked: list[str] = []

    def __getattr__(self, name: str) -> object:
        if not name.startswith("__"):
            self.asked.append(name)
        return lambda *given: self.asked.append(name)


_ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
_UTC = timezone.utc


def _read(value: object) -> Any:
    line, _ = encode({"type": "t", "job_id": "j", "v": value}, 1_000_000)
    assert line is not None
    return json.loads(line)["v"]


VALUES = [
    (_ID, str(_ID)),
    (datetime(2025, 1, 15, 10, 30, tzinfo=_UTC), "2025-01-15T10:30:00+00:00"),
    (datetime(2025, 1, 15, 10, 30, 0, 5, timezone(timedelta(hours=-5.5))), "2025-01-15T10:30:00.000005-05:30"),
    (date(2025, 1, 15), "2025-01-15"),
    (clock(10, 30), "10:30:00"),
    (timedelta(minutes=1, milliseconds=500), 60.5),
    (Decimal("1.10"), "1.10"),
    (Decimal("0.1000000000000000055511151231257827"), "0.1000000000000000055511151231257827"),
    (Decimal("NaN"), "NaN"),
    (fractions.Fraction(1, 3), "1/3"),
    (pathlib.PurePosixPath("/etc/x"), "/etc/x"),
    (b"text", "text"),
    ("ü".encode(), "ü"),
    (bytearray(b"\xffa"), "\\xffa"),
    (memoryview(b"ab"), "ab"),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({1: "a"}.keys(), [1]),
    ({"a": 1}.values(), [1]),
    (collections.deque([1, {2}]), [1, [2]]),
    (range(3), [0, 1, 2]),
    (array.array("d", [1.5]), [1.5]),
    (collections.UserString("abc"), "abc"),
    (types.MappingProxyType({"a": _ID}), {"a": str(_ID)}),
    (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
    (Pair(1, {2}), [1, [2]]),
    (Order(7, Decimal("9.99"), None, [{1}]), {"number": 7, "price": "9.99", "at": None, "parts": [[1]]}),
    (Color.RED, "red"),
    (Color.ODD, 1),
    (Level.HIGH, 3),
    (Named.A, "a"),
    (Bits.ONE | Bits.TWO, 3),
    (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
    (ValueError("no"), "ValueError: no"),
    (1 + 2j, "(1+2j)"),
    (Model(), {"id": str(_ID), "color": "red"}),
    (Attrs(), {"x": 1, "y": [2]}),
    (numpy.int64(5), 5),
    (numpy.uint8(5), 5),
    (numpy.float32(1.5), 1.5),
    (numpy.float64(1.5), 1.5),
    (numpy.longdouble(1.5), 1.5),
    (numpy.bool_(True), True),
    (numpy.str_("x"), "x"),
    (numpy.datetime64("2025-01-15T10:30:00.25"), "2025-01-15T10:30:00.250"),
    (numpy.datetime64("2025-01-15T10:30:00", "ns"), "2025-01-15T10:30:00.000000000"),
    (numpy.timedelta64(1500, "ms"), 1.5),
    (numpy.timedelta64(1_500_000_000, "ns"), 1.5),
    (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    (numpy.array(["2025-01-15T10:30:00"], "datetime64[s]"), ["2025-01-15T10:30:00"]),
    (numpy.array([numpy.nan, 1]), ["nan", 1]),
]
"""Values, and what JSON has for them."""


@pytest.mark.parametrize(("value", "expected"), VALUES, ids=[repr(value)[:40] for value, _ in VALUES])
@pytest.mark.parametrize("is_plain", [True, False])
def test_a_value_looks_as_people_expect(value: object, expected: object, is_plain: bool) -> None:
    if is_plain:
        assert _read(value) == expected
    else:  # beside something that takes the long way
        assert _read([float("nan"), value]) == ["nan", expected]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (_ID, str(_ID)),
        (date(2025, 1, 15), "2025-01-15"),
        (Color.RED, "red"),
        (Color.ODD, "1"),
        (b"k", "k"),
        (numpy.int64(5), "5"),
        (Decimal("1.5"), "1.5"),
        (pathlib.PurePosixPath("/x"), "/x"),
        (frozenset({1}), "frozenset({1})"),
        pytest.param(10**5000, "<int of 16610 bits>", id="long"),
    ],
)
def test_a_key_is_the_text_of_its_value(key: object, expected: str) -> None:
    assert _read({key: {key: 1}}) == {expected: {expected: 1}}


@pytest.fixture
def _tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_tokyo")
def test_a_datetime_without_a_zone_is_local_time() -> None:
    assert _read(datetime(2025, 1, 15, 19, 30)) == "2025-01-15T19:30:00+09:00"
    # Tokyo was once 9:18:59 away, which is no offset of RFC 3339.
    assert _read(datetime(1880, 1, 1, 9, 18, 59)) == "1880-01-01T00:00:00+00:00"


def test_a_datetime_at_the_edge_of_time_is_shown() -> None:
    assert _read(datetime.max).startswith("9999-12-31T23:59:59.999999")
    assert _read(datetime.min).startswith("0001-01-01T00:00:00")


def test_what_is_consumed_by_looking_is_left_alone() -> None:
    numbers = iter([1, 2, 3])
    assert "iterator" in _read(numbers)
    assert list(numbers) == [1, 2, 3]


def test_what_is_far_away_is_asked_nothing() -> None:
    assert "Remote object" in _read(Remote())
    assert Remote.asked == []


def test_what_pretends_to_be_everything_ends() -> None:
    assert isinstance(_read({"a": MagicMock(), "b": float("nan")})["a"], str)


def test_what_turns_into_itself_ends() -> None:
    order = Order(1, Decimal(1))
    order.parts = [order, {2}]
    assert _read(order) == {"number": 1, "price": "1", "at": None, "parts": ["...", [2]]}

    class Endless:
        def model_dump(self) -> dict[str, object]:
            return {"next": Endless()}

    value, depth = _read(Endless()), 0
    while isinstance(value, dict):
        value, depth = value["next"], depth + 1
    assert value == "..." and depth < 70


@pytest.mark.parametrize("many", [range(10**12), numpy.zeros(10**7), numpy.zeros((10**4, 10**3), "uint8")])
def test_the_engine_does_not_wait_for_millions_of_members(many: object) -> None:
    began = time.process_time()
    line, _ = encode({"type": "t", "v": many}, 1_000_000)
    assert line is not None and len(line) <= 1_000_001
    assert time.process_time() - began < 5


def test_a_path_of_no_encoding_is_shown() -> None:
    assert _read(pathlib.PurePosixPath(os.fsdecode(b"/\xff"))) == "/?"
