"""Counters of one publisher."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """What became of the events so far. `published` is the sum of `delivered`, `refused`, all `dropped_` and
    `waiting`."""

    published: int = 0
    """Calls of `publish` since the start of this process or the fork."""
    delivered: int = 0
    """Acknowledged by the daemon."""
    presumed: int = 0
    """The part of `delivered` whose acknowledgement was lost with a connection. The next connection showed that
    the daemon had taken them, so they were not sent again. Whether it refused one of them is unknown."""
    refused: int = 0
    """Refused by the daemon, with or without a reason for each. (A daemon whose acknowledgements do not count
    refusals keeps 64 answers; what it refused beyond these counts as delivered.)"""
    dropped_metrics: int = 0
    """Dropped because the buffer was full: events of type `metrics`."""
    dropped_execution_events: int = 0
    """The same: of type `execution_event`."""
    dropped_lifecycle: int = 0
    """The same: of every other type."""
    dropped_too_large: int = 0
    """Longer than `line_bytes_max` even when shortened."""
    dropped_invalid: int = 0
    """Not a mapping."""
    dropped_closed: int = 0
    """Published after `close`, or not acknowledged within its deadline: these may still have arrived."""
    waiting: int = 0
    """In the buffer, or sent and not yet acknowledged."""
    waiting_bytes: int = 0
    """Their bytes."""
    cut: int = 0
    """Sent with shortened values, because they were longer than `line_bytes_max`."""
    connections: int = 0
    """How often the daemon was reached."""
    faults: int = 0
    """Hooks or calls that failed by a fault in luxcast, and were kept from the engine."""
    sender_faults: int = 0
    """How often the sending thread failed, by its own fault or by code that it calls (a filter of the log). It
    continues."""
    last_fault: str = ""
    """The last failure of that thread."""

    @property
    def dropped(self) -> int:
        """Everything that did not reach the daemon and will not, except what it refused."""
        return (
            self.dropped_metrics
            + self.dropped_execution_events
            + self.dropped_lifecycle
            + self.dropped_too_large
            + self.dropped_invalid
            + self.dropped_closed
        )
