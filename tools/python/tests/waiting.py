"""Waiting for what must come, on a machine of any speed."""

from __future__ import annotations

import time
from typing import Callable

PATIENCE = 30.0


def wait_until(is_so: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until, f"waited {PATIENCE:.0f} s until {what}"
        time.sleep(0.005)
