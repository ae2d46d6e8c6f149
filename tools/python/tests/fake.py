"""A daemon of which the tests decide what it reads, what it answers, and what it remembers."""

from __future__ import annotations

import json
import os
import socket
import threading
from types import TracebackType
from typing import Any, Optional

from waiting import PATIENCE


class FakeDaemon:
    """Takes lines as SPEC section 8 says; `events` are those accepted, in order, `names` those of the publishers."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.events: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.refuses: set[str] = set()
        """Types that it refuses."""
        self.accepted: dict[str, int] = {}
        self.may_read = threading.Event()
        self.may_read.set()
        self.answers_acks = True
        self.counts_refusals = True
        """Whether its acks say how many lines it refused, as those of older daemons do not."""
        self.errors_max = 64
        """How many refusals it names for lines that it read at once."""
        self._is_open = True
        self._listener: Optional[socket.socket] = None
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.listen()

    def listen(self) -> None:
        if os.path.exists(self.path):
            os.unlink(self.path)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._begin(self._accept, self._listener)

    def go_away(self, forgets: bool) -> None:
        """Closes everything, as a daemon that ends."""
        assert self._listener is not None
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self.path)
        for connection in self._sockets:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.may_read.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        for connection in self._sockets:
            connection.close()
        self._sockets.clear()
        self._threads.clear()
        self._listener = None
        if forgets:
            self.accepted.clear()

    def numbers(self) -> list[int]:
        """Member `n` of the events."""
        return [event["n"] for event in self.events]

    def __enter__(self) -> FakeDaemon:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._listener is not None:
            self.go_away(forgets=True)

    def _begin(self, work: Any, *given: object) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._sockets.append(connection)
            self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        held = b""
        name, line, refused = "", 0, 0
        while True:
            self.may_read.wait()
            try:
                data = connection.recv(1 << 16)
            except OSError:
                return
            if not data:
                return
            *lines, held = (held + data).split(b"\n")
            answers: list[dict[str, Any]] = []
            errors = 0
            for text in lines:
                event = json.loads(text) if text else None
                if event is not None and event.get("op") == "hello":
                    name = event["publisher"]
                    self.names.append(name)
                    line = self.accepted.get(name, 0)
                    answers.append({"op": "welcome", "stream_seq": 1, "accepted": line})
                elif event is not None and event.get("op") == "from":
                    line = event["line"] - 1
                else:
                    line += 1
                    if event is None or line <= self.accepted.get(name, 0):
                        continue
                    if not isinstance(event["type"], str) or event["type"] in self.refuses:
                        refused += 1
                        errors += 1
                        if errors > self.errors_max:
                            continue
                        answers.append({"op": "error", "line": line, "code": "bad_type", "message": "told to"})
                    else:
                        self.accepted[name] = line
                        self.events.append(event)
            if lines and self.answers_acks and line:
                count = {"refused": refused} if self.counts_refusals else {}
                answers.append({"op": "ack", "line": line, "stream_seq": 1, **count})
            try:
                connection.sendall(b"".join(json.dumps(answer).encode() + b"\n" for answer in answers))
            except OSError:
                return
