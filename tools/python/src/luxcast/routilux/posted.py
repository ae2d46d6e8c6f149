"""What a job was started with. The hook `on_job_start` is not told, but its caller knows."""

from __future__ import annotations

import sys
from types import FrameType
from typing import NamedTuple, Optional

FRAMES_MAX = 12
"""How far up `Runtime.post` is looked for: our own calls, and those of hooks that may stand before ours."""


class Posted(NamedTuple):
    """All None where `Runtime.post` was not found, or names things in another way."""

    routine_id: Optional[str]
    slot_name: Optional[str]
    data: object


def posted() -> Posted:
    """The arguments of the call of `Runtime.post` that this is within."""
    frame: Optional[FrameType] = sys._getframe(1)
    for _ in range(FRAMES_MAX):
        if frame is None:
            break
        if frame.f_code.co_name == "post" and frame.f_globals.get("__name__") == "routilux.core.runtime":
            given = frame.f_locals
            return Posted(given.get("routine_name"), given.get("slot_name"), given.get("data"))
        frame = frame.f_back
    return Posted(None, None, None)
