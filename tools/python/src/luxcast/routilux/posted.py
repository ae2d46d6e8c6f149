"""What a job was started with. The hook `on_job_start` does not get this, but its caller has it."""

from __future__ import annotations

import sys
from types import FrameType
from typing import NamedTuple, Optional

FRAMES_MAX = 12
"""How far up the stack `Runtime.post` is searched for: our own calls, and those of hooks before ours."""


class Posted(NamedTuple):
    """All None if `Runtime.post` was not found, or uses other names."""

    routine_id: Optional[str]
    slot_name: Optional[str]
    data: object


def posted() -> Posted:
    """The arguments of the enclosing call of `Runtime.post`."""
    frame: Optional[FrameType] = sys._getframe(1)
    for _ in range(FRAMES_MAX):
        if frame is None:
            break
        if frame.f_code.co_name == "post" and frame.f_globals.get("__name__") == "routilux.core.runtime":
            given = frame.f_locals
            return Posted(given.get("routine_name"), given.get("slot_name"), given.get("data"))
        frame = frame.f_back
    return Posted(None, None, None)
