"""Counters of one publisher."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """What became of the events so far. `published` is the sum of `delivered`, `refused`, all `dropped_` and `waiting`."""

    published: int = 0
    """Calls of `publish`, from the start of this process or the fork on."""
    delivered: int = 0
    """Acknowledged by the daemon."""
    presumed: int = 0
    """Of `delivered`, those whose acknowledgement was lost with a connection. The next one told that the daemon had gone
    beyond them, so that they were not sent again; should it have refused one of them, that is not known."""
    refused: int = 0
    """Refused by the daemon, all of them, whether it gave a reason for each or not. (A daemon whose acknowledgements do
    not say how many it refused keeps 64 answers for us; what it refused beyond these would count as delivered.)"""
    dropped_metrics: int = 0
    """Dropped since the buffer was full: events of type `metrics`."""
    dropped_execution_events: int = 0
    """The same: of type `execution_event`."""
    dropped_lifecycle: int = 0
    """The same: of every other type."""
    dropped_too_large: int = 0
    """Over `line_bytes_max` even when cut."""
    dropped_invalid: int = 0
    """Not a mapping."""
    dropped_closed: int = 0
    """Published after `close`, or not acknowledged within its deadline: these may have arrived nevertheless."""
    waiting: int = 0
    """In the buffer, or sent and not yet acknowledged."""
    waiting_bytes: int = 0
    """Bytes of those."""
    cut: int = 0
    """Sent with shortened values, since they were over `line_bytes_max`."""
    connections: int = 0
    """How often the daemon was reached."""
    faults: int = 0
    """Hooks or calls that failed by our own fault, and were kept from the engine."""
    sender_faults: int = 0
    """How often the thread that sends failed, by our fault or that of what it calls (a filter of the log). It goes on."""
    last_fault: str = ""
    """The last failure of that thread."""

    @property
    def dropped(self) -> int:
        """All that did not reach the daemon and will not, but for what it refused."""
        return (
            self.dropped_metrics
            + self.dropped_execution_events
            + self.dropped_lifecycle
            + self.dropped_too_large
            + self.dropped_invalid
            + self.dropped_closed
        )
