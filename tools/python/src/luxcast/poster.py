"""Requests to the daemon over one connection that is kept, and what their answers say."""

from __future__ import annotations

import json
import time
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse, IncompleteRead, RemoteDisconnected
from typing import Any, NamedTuple, Optional, cast

from luxcast.endpoint import PATH, Endpoint
from luxcast.flight import Batch
from luxcast.stream import READ_BYTES, Pause, Stream

ANSWER_BYTES_MAX = 1 << 18
"""Head and body of an answer: the daemon's has at most 64 refusals of a few hundred bytes."""

ANSWER_SECONDS_MAX = 60.0
"""From the end of a request to the end of its answer: the daemon may wait for watchers. Proxies wait as long."""

RETRY_AFTER_SECONDS_MAX = 300.0
"""The longest pause that another may ask for."""

WORDS_MAX = 300
"""How many characters of an answer's words go into the log."""


class Receipt(NamedTuple):
    refused: list[tuple[int, str]]
    """The first refused lines: their numbers, and why."""
    refused_total: int
    accepted_line: int
    """The last line that the daemon accepted under the publisher's name."""


class Declined(OSError):
    """The daemon, or a proxy before it, has answered that it does not take the request."""

    def __init__(self, status: int, words: str, retry_after: Optional[float]) -> None:
        super().__init__(words)
        self.status = status
        self.retry_after = retry_after
        """For how many seconds it wants no other request; None if it does not say."""

    @property
    def is_lasting(self) -> bool:
        """Whether another try makes sense only when somebody has changed something."""
        return 300 <= self.status < 500 and self.status not in (408, 425, 429)


class Poster:
    """Connects when there is something to send. Raises OSError for all that goes wrong."""

    def __init__(self, endpoint: Endpoint, name: str, pause: Pause) -> None:
        self._endpoint = endpoint
        self._name = name
        self._stream = Stream(pause)
        self._pause = pause
        self._token = ""
        self.connections = 0
        """How many it has made."""

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def is_open(self) -> bool:
        return self._stream.is_open

    def is_quiet(self) -> bool:
        """Whether an open connection can be used for another request, as far as is known."""
        return self._stream.is_quiet()

    def close(self) -> None:
        self._stream.close()

    def ask(self) -> int:
        """The last line that the daemon accepted under the publisher's name, 0 if it knows none."""
        return self.post(Batch(1, 0, 0, b"")).accepted_line

    def post(self, batch: Batch) -> Receipt:
        if self.is_open and not self._stream.is_quiet():
            self.close()
        if not self.is_open:
            self._connect()
        is_whole = self._stream.send(self._head(batch) + batch.data)
        status, fields, body = self._answer("POST")
        if status not in (200, 422):
            self.close()
            raise self._declined(status, fields, body)
        if not is_whole:
            self.close()
            raise _stranger("it answers before it has heard all")
        return _receipt(batch, body)

    def _connect(self) -> None:
        self._token = self._endpoint.current_token()
        address, proxy = self._endpoint.address, self._endpoint.proxy
        self._stream = Stream(self._pause)
        self._stream.connect(*((proxy or address)[1:3]))
        try:
            if self._endpoint.context is not None:
                if proxy is not None:
                    self._open_tunnel()
                self._stream.start_tls(self._endpoint.context, address.host)
        except BaseException:
            self.close()
            raise
        self.connections += 1

    def _open_tunnel(self) -> None:
        """RFC 9110, 9.3.6."""
        address = self._endpoint.address
        host = f"[{address.host}]" if ":" in address.host else address.host
        head = f"CONNECT {host}:{address.port} HTTP/1.1\r\nHost: {host}:{address.port}\r\n{self._proxy_field()}\r\n"
        self._stream.send(head.encode())
        status, fields, _ = self._answer("CONNECT")
        if not 200 <= status < 300:
            raise Declined(status, f"the proxy opens no tunnel: {status}", _retry_after(fields))

    def _proxy_field(self) -> str:
        credentials = self._endpoint.proxy_credentials
        return f"Proxy-Authorization: {credentials}\r\n" if credentials else ""

    def _head(self, batch: Batch) -> bytes:
        address, is_tunnelled = self._endpoint.address, self._endpoint.context is not None
        target = f"{address.prefix}{PATH}"
        head = "Content-Type: application/x-ndjson\r\nAccept: application/json\r\nUser-Agent: luxcast-python\r\n"
        if self._endpoint.proxy is not None and not is_tunnelled:
            target = f"http://{address.authority}{target}"
            head += self._proxy_field()
        if self._token:
            head += f"Authorization: Bearer {self._token}\r\n"
        if batch.data:
            head += f"Luxcast-Line: {batch.first}\r\n"
        return (
            f"POST {target} HTTP/1.1\r\nHost: {address.authority}\r\nContent-Length: {len(batch.data)}\r\n"
            f"Luxcast-Publisher: {self._name}\r\n{head}\r\n"
        ).encode()

    def _answer(self, method: str) -> tuple[int, Message, bytes]:
        self._stream.expect(ANSWER_BYTES_MAX, ANSWER_SECONDS_MAX)
        # It needs nothing of a socket but `makefile`.
        response = HTTPResponse(cast(Any, self._stream), method=method)
        try:
            response.begin()
            # A tunnel that is open has no body.
            body = b"" if method == "CONNECT" and response.status < 300 else _body(response)
        except RemoteDisconnected:
            raise ConnectionResetError("the connection was closed before an answer came") from None
        except IncompleteRead:
            raise ConnectionResetError("the connection was closed within an answer") from None
        except (HTTPException, ValueError):
            # Not its text, which is the other side's.
            raise _stranger("it does not speak HTTP") from None
        finally:
            response.close()
        if response.will_close and method != "CONNECT":
            self.close()
        return response.status, response.headers, body

    def _declined(self, status: int, fields: Message, body: bytes) -> Declined:
        words = ""
        if 300 <= status < 400:
            where = f" {fields['Location']}" if fields.get("Location") else ""
            words = f"it redirects to another address{where}, which is not followed: give the address itself"
        else:
            try:
                answer = json.loads(body)
                words = f"{answer['error']}: {answer['message']}"
            except (ValueError, TypeError, KeyError, RecursionError):
                words = "an answer that is not the daemon's, but perhaps a proxy's"
        if self._token:
            words = words.replace(self._token, "...")
        return Declined(status, f"{status} {_clean(words)}", _retry_after(fields))


def _body(response: HTTPResponse) -> bytes:
    """In bounded pieces: the library makes room at once for whatever length an answer, or a chunk of it, claims."""
    body = b""
    while piece := response.read(READ_BYTES):
        body += piece
    if response.length:
        raise IncompleteRead(body)
    return body


def _clean(words: str) -> str:
    """One line of bounded length, without what a terminal would obey."""
    shown = "".join(character if character.isprintable() else "?" for character in words[: WORDS_MAX + 1])
    return shown if len(shown) <= WORDS_MAX else f"{shown[:WORDS_MAX]}..."


def _stranger(why: str) -> ConnectionAbortedError:
    return ConnectionAbortedError(f"what answers there is not the daemon: {why}")


def _receipt(batch: Batch, body: bytes) -> Receipt:
    try:
        answer: dict[str, Any] = json.loads(body)
        accepted, total, line = (_count(answer[name]) for name in ("accepted", "refused_total", "accepted_line"))
        refused = [(_count(row["line"]), _clean(f"{row['code']}: {row['message']}")) for row in answer["refused"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _stranger("its answer is no receipt") from None
    numbers = [number for number, _ in refused]
    is_sound = (
        accepted + total == batch.events
        and len(numbers) <= total
        and all(batch.first <= number <= batch.last for number in numbers)
        and len(set(numbers)) == len(numbers)
        # A batch without lines asks for what was accepted.
        and (not batch.data or line <= batch.last)
        and (not accepted or total or line == batch.last)
    )
    if not is_sound:
        raise _stranger("its counts cannot be right")
    return Receipt(refused, total, line)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError("not a count")
    return value


def _retry_after(fields: Message) -> Optional[float]:
    """Seconds, or a date (RFC 9110, 10.2.3)."""
    text = (fields.get("Retry-After") or "").strip()
    try:
        seconds = float(int(text[:12])) if text.isdigit() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)
