"""The documented events, member by member."""

from __future__ import annotations

import itertools
import time
from typing import Any, Optional

from luxcast.routilux.ids import fit

Event = dict[str, Any]

_event_numbers = itertools.count(1)

_second = (-1, "")
"""The last formatted second, and its text."""


def now() -> str:
    """RFC 3339, UTC, milliseconds."""
    global _second
    at = time.time()
    second = int(at)
    last, text = _second
    if second != last:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = (second, text)
    return f"{text}.{int((at - second) * 1000):03d}Z"


def event(kind: str, job_id: Optional[str], flow_id: Optional[str], **members: object) -> Event:
    """Starts an event: first what it is about, then `timestamp` for now, then other members. If the engine's name
    for a job or a flow differs from the id, it is added beside it."""
    begun: Event = {"type": kind}
    if job_id:
        _name(begun, "job_id", "job_name", str(job_id))
    if flow_id:
        _name(begun, "flow_id", "flow_name", str(flow_id))
    begun.update(members)
    return begun


def _name(begun: Event, id_member: str, name_member: str, name: str) -> None:
    begun[id_member] = id_ = fit(name)
    if id_ != name:
        begun[name_member] = name


def job_event(kind: str, job_id: str, flow_id: str, data: Event, at: Optional[str] = None) -> Event:
    return event(kind, job_id, flow_id, timestamp=at or now(), data=data)


def routine_event(kind: str, job_id: Optional[str], flow_id: str, routine_id: str, data: Event) -> Event:
    return event(kind, job_id, flow_id, routine_id=routine_id, timestamp=now(), data=data)


def execution_event(job_id: Optional[str], flow_id: str, routine_id: str, inner: str, data: Event) -> Event:
    at = now()
    return event(
        "execution_event",
        job_id,
        flow_id,
        timestamp=at,
        event={
            "event_id": f"evt_{next(_event_numbers):06x}",
            "routine_id": routine_id,
            "event_type": inner,
            "timestamp": at,
            "data": data,
        },
    )


def breakpoint_hit(
    job_id: Optional[str], flow_id: str, breakpoint_id: str, routine_id: str, slot_name: str, variables: object
) -> Event:
    return event(
        "breakpoint_hit",
        job_id,
        flow_id,
        timestamp=now(),
        breakpoint={
            "breakpoint_id": breakpoint_id,
            "type": "slot",
            "routine_id": routine_id,
            "slot_name": slot_name,
            "event_name": None,
        },
        context={"routine_id": routine_id, "variables": variables},
    )
