"""The real daemon as a process of its own, and watchers of it with the library `websockets`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from types import TracebackType
from typing import Any, Optional

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from waiting import PATIENCE, wait_until

Message = dict[str, Any]

_CONTROL = ("connection:status", "ping", "stream:gap")


def program() -> str:
    """The daemon's binary, which `tools/python/check` has named: without it there is nothing to test."""
    path = os.environ.get("LUXCAST_PROGRAM")
    assert path and os.access(path, os.X_OK), "LUXCAST_PROGRAM must name the daemon's binary"
    return path


class Daemon:
    """Listens on loopback, on a port of its own; can be killed and started again with the same socket."""

    def __init__(self, path: str, *flags: str) -> None:
        self.path = path
        self._flags = flags
        self.start()

    def start(self) -> None:
        command = [program(), "serve", "--listen", "127.0.0.1:0", "--admin", "off", "--ingest", self.path]
        command += ["--metrics-seconds", "0", "--log-level", "error", *self._flags]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LUXCAST_")}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        assert self._process.stdout is not None
        self.address = ""
        for line in self._process.stdout:
            kind, _, value = line.strip().partition(" ")
            if kind == "listening":
                self.address = value
            if kind == "ingest":
                break
        assert self.address, "the daemon did not start"

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def watch(self, topic: str, since: str = "start") -> Watcher:
        return Watcher(f"{self.address}/api/ws/{topic}?since={since}")

    def __enter__(self) -> Daemon:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._process.poll() is None:
            self.kill()


class Watcher:
    """Gathers what it gets until the connection ends."""

    def __init__(self, url: str) -> None:
        self.events: list[Message] = []
        self.gaps: list[Message] = []
        self._socket = connect(url, max_size=None, open_timeout=PATIENCE)
        self._thread = threading.Thread(target=self._gather, daemon=True)
        self._thread.start()

    def _gather(self) -> None:
        try:
            for text in self._socket:
                message = json.loads(text)
                if message["type"] == "stream:gap":
                    self.gaps.append(message)
                if message["type"] not in _CONTROL and "stream_seq" in message:
                    self.events.append(message)
        except ConnectionClosed:
            pass

    def wait_for(self, count: int) -> list[Message]:
        wait_until(lambda: len(self.events) >= count, f"a watcher has {count} events")
        return self.events

    def close(self) -> None:
        self._socket.close()
        self._thread.join(PATIENCE)

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()


