"""Hears of failures that the engine tells its log, but not its hooks.

Routilux 1.1.0 calls `on_routine_end` only for the routines that jobs are posted to. When another routine raises, it
only logs that, with the exception, in the thread that has just filled the routine's slot.
"""

from __future__ import annotations

import logging

from luxcast.routilux.recorder import Recorder

LOGGER = "routilux.core.runtime"
_FUNCTION = "_check_routine_activation"
_BEGINS = "Error in routine logic"


class FailureFilter(logging.Filter):
    """Lets every record through. A filter, since a handler would change what is printed of a log without any."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            if record.exc_info and record.funcName == _FUNCTION and str(record.msg).startswith(_BEGINS):
                error = record.exc_info[1]
                if error is not None:
                    self._recorder.error_logged(error)
        except Exception:
            self._recorder.publisher.count_fault()
        return True
