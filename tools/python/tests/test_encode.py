"""No value raises, and each line is one that the daemon takes."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from luxcast.encode import DEPTH_MAX, encode


class _NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class _BadMapping(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise RuntimeError("no")


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def _circle() -> list[Any]:
    value: list[Any] = [1]
    value += [value, value]
    return value


def _line(value: object, line_bytes_max: int = 1_000_000) -> bytes:
    line, _ = encode({"type": "t", "job_id": "j", "v": value}, line_bytes_max)
    assert line is not None and line.endswith(b"\n") and line.count(b"\n") == 1
    return line


def _read(value: object) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(_line(value).decode("utf-8", "strict"), parse_constant=refuse)["v"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, True, "ü\n\u2028\x00"]}, {"a": [1, 2.5, None, True, "ü\n\u2028\x00"]}),
        ("😀", "😀"),
        ((1, 2), [1, 2]),
        (math.nan, "nan"),
        ([math.inf, -math.inf], ["inf", "-inf"]),
        ("a\ud800b", "a?b"),
        ({"\udfff": 1}, {"?": 1}),
        ({(1, 2): 3, None: 4, 5: 6, math.nan: 7}, {"(1, 2)": 3, "null": 4, "5": 6, "nan": 7}),
        (_NoRepr(), "<_NoRepr that cannot be shown>"),
        ({"a": _NoRepr(), "b": math.nan}, {"a": "<_NoRepr that cannot be shown>", "b": "nan"}),
        (_circle(), [1, "...", "..."]),
        (_BadMapping({"a": 1}), "{'a': 1}"),
    ],
)
def test_any_value_becomes_json(value: object, expected: object) -> None:
    assert _read(value) == expected


def test_a_number_that_python_will_not_write_is_described() -> None:
    assert _read([10**4000, 10**5000]) == [10**4000, "<int of 16610 bits>"]


def test_an_object_shows_the_start_of_its_text() -> None:
    class Long:
        def __repr__(self) -> str:
            return "x" * 5000

    assert _read(Long()) == "x" * 1000


def test_numbers_and_texts_stay_as_they_are() -> None:
    assert _line([1.5, -0.0, 2**70, "\ud83d" + "x"]).startswith(b'{"type":"t","job_id":"j","v":[1.5,-0.0,')


def test_a_line_nests_no_deeper_than_the_daemon_allows() -> None:
    # The event is level 1, so the value may have one level less.
    assert _read(_nested(DEPTH_MAX - 1)) == _nested(DEPTH_MAX - 1)
    for depth in (DEPTH_MAX, 500, 100_000):
        value, levels = _read(_nested(depth)), 1
        while isinstance(value, list):
            value, levels = value[0], levels + 1
        assert (value, levels) == ("...", DEPTH_MAX)


def test_depth_is_seen_through_brackets_of_other_kinds_and_in_texts() -> None:
    value: list[Any] = []
    for _ in range(DEPTH_MAX):
        value = ['"]}\\', {"a": value}, "{["]
    line = _line(value)
    assert b'"..."' in line and line.count(b'"a":') < DEPTH_MAX


def test_many_brackets_are_not_depth() -> None:
    wide: list[Any] = [{"a": []} for _ in range(1000)]
    assert _read(wide) == wide
    assert _read("[" * 1000) == "[" * 1000


def test_what_refers_to_itself_again_and_again_ends() -> None:
    value: list[Any] = [math.nan]
    for _ in range(40):
        value = [value, value]
    line, _ = encode({"type": "t", "v": value, "w": {1: {2: (3,)}}}, 1_000_000)
    assert line is not None and len(line) < 1_000_000


def test_a_long_line_is_cut_to_one_that_fits() -> None:
    line, is_cut = encode({"type": "t", "job_id": "j", "data": {"log": "x" * 2_000_000, "n": 7}}, 1_000_000)
    assert line is not None and is_cut
    data = json.loads(line)["data"]
    assert data == {"log": "x" * 4000 + "...", "n": 7}


def test_long_lists_are_cut_and_say_so() -> None:
    line, is_cut = encode({"type": "t", "data": list(range(100_000))}, 10_000)
    assert line is not None and is_cut
    assert json.loads(line)["data"] == [*range(200), "..."]


def test_the_limit_is_the_line_without_its_newline() -> None:
    event = {"type": "t", "v": "x" * 100}
    exact = len(json.dumps(event, separators=(",", ":")))
    assert not encode(event, exact).is_cut
    assert encode(event, exact - 1).data is None


def test_a_dictionary_that_changes_meanwhile_does_not_raise() -> None:
    class Growing:
        def __repr__(self) -> str:
            data[len(data)] = 1
            return "grown"

    data: dict[Any, Any] = {"a": Growing(), "b": 2}
    assert _read(data)["a"] == "grown"
