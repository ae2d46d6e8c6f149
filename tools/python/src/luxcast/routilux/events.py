"""The documented events, member by member."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from typing import Any, Optional

from luxcast.routilux.ids import fit

Event = dict[str, Any]

_event_numbers = itertools.count(1)


def now() -> str:
    """RFC 3339, UTC, milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")[:-6] + "Z"


def event(kind: str, job_id: Optional[str], flow_id: Optional[str], **members: object) -> Event:
    """Begins with who it is about; `timestamp` is now, and other members follow."""
    begun: Event = {"type": kind}
    if job_id:
        begun["job_id"] = fit(job_id)
    if flow_id:
        begun["flow_id"] = fit(flow_id)
    begun.update(members)
    return begun


def job_event(kind: str, job_id: str, flow_id: str, data: Event) -> Event:
    return event(kind, job_id, flow_id, timestamp=now(), data=data)


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
