"""Publishes the events of a workflow engine to the luxcast daemon, and never makes the engine wait.

The path of an event: `publish` turns it into a line in the caller's thread (`encode`), puts the line into a bounded
buffer (`outbox`), and returns. A thread (`sender`) takes lines from there and sends them over the daemon's Unix
socket (`socket_sender`, `link`) or over HTTP (`http_sender`, `poster`, `stream`). It keeps unacknowledged lines
(`flight`), to send them again after a failure.
"""

from luxcast.publisher import Publisher
from luxcast.settings import default_path, default_paths, is_disabled
from luxcast.stats import Stats

__all__ = ["Publisher", "Stats", "default_path", "default_paths", "is_disabled"]
