"""What the log is told: the daemon comes and goes, events are dropped or refused. Only from the sender's thread, as a
log may be slow, and at most so often."""

from __future__ import annotations

import logging
import time
from typing import Optional

from luxcast.stats import Stats

SECONDS = 10.0
"""Between two lines about what was lost."""


class Report:
    """Writes to the logger `luxcast` unless another one is given."""

    def __init__(self, logger: Optional[logging.Logger] = None) -> None:
        self._logger = logger or logging.getLogger("luxcast")
        self._is_gone = False
        self._told = Stats()
        self._stats = Stats()
        self._told_at = -SECONDS
        self._reason = ""

    def is_there(self, path: str) -> None:
        self._logger.info("publishing to the daemon at %s", path)
        self._is_gone = False

    def is_gone(self, path: str, error: Exception) -> None:
        """Once for each time that it is gone, however often it is looked for."""
        if not self._is_gone:
            self._logger.warning("cannot publish to the daemon at %s, will try again: %s", path, error)
        self._is_gone = True

    def is_refused(self, reason: str) -> None:
        """Why a line was refused: the last reason is told with the next count."""
        self._reason = reason

    @property
    def has_news(self) -> bool:
        """Whether something was lost that the log does not tell yet."""
        return self._news(self._stats) != (0, 0, 0)

    def look(self, stats: Stats, is_last: bool = False) -> None:
        """Tells what was lost since it was last told, unless that was a moment ago and there will be another look."""
        self._stats = stats
        now = time.monotonic()
        if not self.has_news or (now < self._told_at + SECONDS and not is_last):
            return
        dropped, refused, faults = self._news(stats)
        if dropped:
            self._logger.warning(
                "%d events dropped (so far %d metrics, %d execution events, %d others for lack of room, %d too large, "
                "%d invalid, %d after the end); %d wait",
                dropped,
                stats.dropped_metrics,
                stats.dropped_execution_events,
                stats.dropped_lifecycle,
                stats.dropped_too_large,
                stats.dropped_invalid,
                stats.dropped_closed,
                stats.waiting,
            )
        if refused:
            self._logger.warning("%d events refused by the daemon, the last one: %s", refused, self._reason)
        if faults:
            self._logger.warning("%d events lost by a fault of luxcast's own", faults)
        self._told = stats
        self._told_at = now

    def _news(self, stats: Stats) -> tuple[int, int, int]:
        told = self._told
        return stats.dropped - told.dropped, stats.refused - told.refused, stats.faults - told.faults
