"""One connection to the daemon: hello, lines out, answers in. It never blocks."""

from __future__ import annotations

import json
import socket
from typing import Any, NamedTuple, Optional

ANSWERS_BYTES_MAX = 1 << 16
"""Answers are far shorter: this much without a newline is not an answer."""

READ_BYTES = 1 << 16


class Welcome(NamedTuple):
    accepted: int
    """The last line that the daemon accepted under our name."""


class Acknowledged(NamedTuple):
    line: int
    refused: Optional[int]
    """How many lines of this connection up to that one were refused; None if the daemon does not say."""


class Refused(NamedTuple):
    line: int
    reason: str


class Link:
    """Raises OSError if the connection is lost, or does not lead to a daemon."""

    def __init__(self, path: str, name: str) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._unsent = memoryview(b"")
        self._answers = bytearray()
        self.is_welcome = False
        try:
            self._socket.setblocking(False)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        self.queue(_line({"op": "hello", "publisher": name, "ack": True, "dedupe": True}))

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def has_unsent(self) -> bool:
        return len(self._unsent) > 0

    def queue(self, data: bytes) -> None:
        """Takes the bytes to send next; only after all earlier ones were sent."""
        assert not self.has_unsent
        self._unsent = memoryview(data)

    def begin(self, next_line: int, again: bytes) -> None:
        """After the welcome: states the next line's number, and sends lines that an earlier connection lost."""
        self.is_welcome = True
        self.queue(_line({"op": "from", "line": next_line}) + again)

    def send(self) -> None:
        """Sends as much as the socket takes."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except (BlockingIOError, InterruptedError):
            pass

    def receive(self) -> list[Welcome | Acknowledged | Refused]:
        """Reads the answers that have arrived."""
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return []
        if not data:
            raise ConnectionResetError("the daemon closed the connection")
        self._answers += data
        *lines, rest = self._answers.split(b"\n")
        self._answers = bytearray(rest)
        if len(rest) > ANSWERS_BYTES_MAX:
            raise ConnectionAbortedError("the listener there is not the daemon")
        return [answer for answer in map(_answer, lines) if answer is not None]

    def close(self) -> None:
        self._socket.close()


def _line(control: dict[str, object]) -> bytes:
    return json.dumps(control, separators=(",", ":")).encode() + b"\n"


def _answer(line: bytes | bytearray) -> Optional[Welcome | Acknowledged | Refused]:
    try:
        answer: dict[str, Any] = json.loads(line)
        operation = answer["op"]
        if operation == "welcome":
            return Welcome(int(answer["accepted"]))
        if operation == "ack":
            refused = answer.get("refused")
            return Acknowledged(int(answer["line"]), None if refused is None else int(refused))
        if operation == "error":
            return Refused(int(answer["line"]), f"{answer['code']}: {answer['message']}")
    except (ValueError, TypeError, KeyError) as error:
        raise ConnectionAbortedError("the listener there is not the daemon") from error
    return None
