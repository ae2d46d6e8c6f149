"""Writes to the log that the daemon comes and goes, and that events are dropped or refused. Runs only in the
sender's thread, as a log may be slow, and limits how often it writes. A failing log does not stop sending."""

from __future__ import annotations

import logging
import time
from typing import Callable, Optional

from luxcast.problems import Key, Noted
from luxcast.stats import Stats

SECONDS = 10.0
"""Shortest time between two lines about losses, and between two about one kind of mistake at one place."""

REASONS_MAX = 8
"""How many of the daemon's reasons for refusals fit in one line."""


class Report:
    """Writes to the logger `luxcast` unless another one is given."""

    def __init__(self, logger: Optional[logging.Logger], note_fault: Callable[[Exception], None]) -> None:
        """`note_fault` is called when the log fails: a filter may raise anything."""
        self._logger = logger or logging.getLogger("luxcast")
        self._note_fault = note_fault
        self._gone_for: set[str] = set()
        """Kinds of reasons that were told since the daemon is gone."""
        self._told = Stats()
        self._stats = Stats()
        self._told_at = -SECONDS
        self._problems: dict[Key, Noted] = {}
        self._problems_told: dict[Key, tuple[int, float]] = {}
        """How many of each were reported, and when."""
        self._reasons: dict[str, None] = {}
        """Reasons since the last line about refusals, in the order of their first; the last line's reasons until
        then."""
        self._are_reasons_told = False

    def is_there(self, path: str) -> None:
        self._say(logging.INFO, "publishing to the daemon at %s", path)
        self._gone_for.clear()

    def is_gone(self, paths: str, error: Exception, kind: str = "") -> None:
        """Once for each kind of reason and each time that it is gone, however often it is tried."""
        if kind not in self._gone_for and len(self._gone_for) < REASONS_MAX:
            self._say(logging.WARNING, "cannot publish to the daemon at %s, will try again: %s", paths, error)
            self._gone_for.add(kind)

    def is_refused(self, reason: str) -> None:
        """Notes why a line was refused; each reason is written with the next count."""
        if self._are_reasons_told:
            self._reasons.clear()
            self._are_reasons_told = False
        if len(self._reasons) < REASONS_MAX:
            self._reasons[reason] = None

    def is_misspelt(self, variable: str) -> None:
        self._say(
            logging.WARNING,
            "the variable %s is unknown; known are LUXCAST_INGEST, LUXCAST_URL, LUXCAST_TOKEN and LUXCAST_DISABLED",
            variable,
        )

    @property
    def has_news(self) -> bool:
        """Whether something is not yet in the log."""
        return any(self._news(self._stats)) or any(self._untold(key) for key in self._problems)

    def look(self, stats: Stats, problems: dict[Key, Noted], is_last: bool = False) -> None:
        """Writes what there is to report, unless the same was written a moment ago and there will be another
        chance."""
        self._stats = stats
        self._problems = problems
        now = time.monotonic()
        for key in problems:
            _, told_at = self._problems_told.get(key, (0, -SECONDS))
            if self._untold(key) and (now >= told_at + SECONDS or is_last):
                self._tell_problem(key)
                self._problems_told[key] = (problems[key].number, now)
        if any(self._news(stats)) and (now >= self._told_at + SECONDS or is_last):
            self._tell_losses(stats)
            self._told_at = now

    def _untold(self, key: Key) -> int:
        return self._problems[key].number - self._problems_told.get(key, (0, 0.0))[0]

    def _tell_problem(self, key: Key) -> None:
        noted, others = self._problems[key], self._untold(key) - 1
        like = "like this or another" if noted.is_mixed else "like this"
        self._say(logging.WARNING, "%s%s", noted.last, f" ({others} more {like})" if others else "")

    def _tell_losses(self, stats: Stats) -> None:
        dropped, refused, faults, sender_faults = self._news(stats)
        if dropped:
            self._say(
                logging.WARNING,
                "%s dropped (so far %d metrics, %d execution events, %d others for lack of room, %d too large, "
                "%d invalid, %d after the end); %d wait",
                _events(dropped),
                stats.dropped_metrics,
                stats.dropped_execution_events,
                stats.dropped_lifecycle,
                stats.dropped_too_large,
                stats.dropped_invalid,
                stats.dropped_closed,
                stats.waiting,
            )
        if refused:
            named = f", for: {'; '.join(self._reasons)}" if self._reasons else ", none of them named"
            self._say(logging.WARNING, "%s refused by the daemon%s", _events(refused), named)
            self._are_reasons_told = True
        if faults:
            self._say(logging.WARNING, "%s lost by a fault in luxcast itself", _events(faults))
        if sender_faults:
            self._say(
                logging.WARNING,
                "the thread that sends failed %d time%s, the last time with %s; it continues, %s wait",
                sender_faults,
                "" if sender_faults == 1 else "s",
                stats.last_fault,
                _events(stats.waiting),
            )
        self._told = stats

    def _news(self, stats: Stats) -> tuple[int, int, int, int]:
        told = self._told
        return (
            stats.dropped - told.dropped,
            stats.refused - told.refused,
            stats.faults - told.faults,
            stats.sender_faults - told.sender_faults,
        )

    def _say(self, level: int, message: str, *told: object) -> None:
        try:
            self._logger.log(level, message, *told)
        except Exception as error:
            self._note_fault(error)


def _events(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"
