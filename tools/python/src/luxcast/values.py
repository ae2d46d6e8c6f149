"""Writes values in JSON that JSON has no form for: in the way that people who write JSON expect, never as `repr` of
something that has a value. Knows the standard library, and recognizes numpy, attrs and pydantic by what their objects
can do.
"""

from __future__ import annotations

import dataclasses
import os
from collections import UserString
from collections.abc import Mapping, Sequence, Set, ValuesView
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from itertools import islice
from numbers import Integral, Rational, Real
from typing import Any

SHOWN_MAX = 1_000
"""Characters kept of the text of an unknown value."""

ITEMS_MAX = 200_000
"""Members taken from a set, a range or an array: more than fit in any line."""

OMITTED = "..."

_FROM_ARRAYS = (bool, int, float, str, bytes, list, datetime, date, timedelta, complex)


def plain(value: object) -> object:
    """One step towards JSON: a JSON value, or members that may each need a step of their own."""
    try:
        return _plain(value)
    except Exception:
        return shown(value)


def shown(value: object) -> str:
    """The start of a value's text: `str` if its class defines it, else its `repr`, else the name of its type."""
    try:
        if isinstance(value, BaseException):
            return f"{type(value).__name__}: {value}"[:SHOWN_MAX]
        has_text = type(value).__str__ is not object.__str__
        return (str(value) if has_text else repr(value))[:SHOWN_MAX]
    except Exception:
        return f"<{type(value).__name__} that cannot be shown>"


def moment(value: datetime) -> str:
    """RFC 3339. A time without a zone is local time, as everywhere in Python, and gets the local offset."""
    try:
        told = value.astimezone() if value.tzinfo is None else value
        offset = told.utcoffset()
        # Some zones once had offsets with seconds, which few readers accept.
        if offset is not None and offset % timedelta(minutes=1):
            told = told.astimezone(timezone.utc)
        return told.isoformat()
    except Exception:
        return value.isoformat()


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, UserString):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, (Decimal, Rational)) and not isinstance(value, Integral):
        return str(value)  # exact, and always of one type
    members = _members(value)
    if members is not None:
        return members
    listed = _of_array(value)
    return shown(value) if listed is NotImplemented else listed


def _members(value: Any) -> object:
    """An object or a list for a value with members; None for others."""
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: getattr(value, name) for name in names if hasattr(value, name)}
    if isinstance(value, (Set, Sequence, ValuesView)):
        items = list(islice(value, ITEMS_MAX))
        if isinstance(value, Set):
            items = _in_order(items)
        return [*items, OMITTED] if len(value) > ITEMS_MAX else items
    # Asks the class: an object may invent whatever it is asked for, and be remote.
    attributes = getattr(type(value), "__attrs_attrs__", None)
    if isinstance(attributes, tuple):
        return {attribute.name: getattr(value, attribute.name) for attribute in attributes}
    dumped = value.model_dump() if callable(getattr(type(value), "model_dump", None)) else None
    return dumped if isinstance(dumped, dict) else None


def _in_order(items: list[Any]) -> list[Any]:
    """Equal sets give equal lines where possible."""
    try:
        return sorted(items)
    except Exception:
        return items


def _of_array(value: Any) -> object:
    """Numbers and arrays of numpy and similar libraries; NotImplemented for anything else."""
    if callable(getattr(type(value), "tolist", None)):
        kind = getattr(getattr(value, "dtype", None), "kind", None)
        if kind == "M":
            value = value.astype(str)  # as datetimes they would be local time, which they are not
        elif kind == "m":
            value = value.astype("timedelta64[us]")
        size = getattr(value, "size", 1)
        listed = None if isinstance(size, int) and size > ITEMS_MAX else value.tolist()
        if isinstance(listed, _FROM_ARRAYS):
            return listed
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else NotImplemented
