"""A daemon over HTTP of which the tests decide what it answers, and a TCP relay that cuts connections where they say."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Callable, Optional

from waiting import PATIENCE


@dataclass
class Request:
    method: str
    target: str
    fields: dict[str, str]
    body: bytes
    at: float

    @property
    def lines(self) -> list[bytes]:
        return self.body.splitlines()


Behaviour = Callable[["FakeHttp", Request], bytes]
"""What one request gets in place of a receipt; the connection ends behind it unless it says `keep-alive`."""


def answer(status: int, body: object = "", **fields: str) -> Behaviour:
    text = body if isinstance(body, str) else json.dumps(body)
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    whole = f"HTTP/1.1 {status} Word\r\n{head}Content-Length: {len(text)}\r\n\r\n{text}".encode()
    return lambda fake, request: whole


def raw(data: bytes) -> Behaviour:
    return lambda fake, request: data


class FakeHttp:
    """Takes lines as SPEC section 12 says; `events` are those accepted, in order."""

    def __init__(self, host: str = "127.0.0.1", context: Optional[ssl.SSLContext] = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.accepted: dict[str, int] = {}
        self.refuses: set[str] = set()
        """Types that it refuses."""
        self.refused_max = 64
        """How many refusals it names."""
        self.script: deque[Behaviour] = deque()
        """For the next requests."""
        self.always: Optional[Behaviour] = None
        self.may_read = threading.Event()
        self.may_read.set()
        self.closes_behind_answers = False
        self._host, self._context = host, context
        self._port = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.listen()

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._context else 'http'}://{host}:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    def listen(self) -> None:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self._host, self._port))
        self._port = self._listener.getsockname()[1]
        self._listener.listen()
        self._is_open = True
        self._begin(self._accept, self._listener)

    def go_away(self, forgets: bool = False) -> None:
        self._is_open = False
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self.may_read.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        self._threads.clear()
        if forgets:
            self.accepted.clear()

    def hang_up(self) -> None:
        """Ends all connections."""
        with self._lock:
            for connection in self._sockets:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def numbers(self) -> list[int]:
        return [event["n"] for event in self.events]

    def __enter__(self) -> FakeHttp:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._is_open:
            self.go_away()

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
            with self._lock:
                self._sockets.append(connection)
                self.connections += 1
            if self._is_open:
                self._begin(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        plain = connection
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection.makefile("rb") as reader:
                while (request := self._read(reader)) is not None:
                    connection.sendall(self._answer(request))
                    if not self._is_kept:
                        break
        except OSError:
            pass
        finally:
            with self._lock:
                self._sockets.remove(plain)
            connection.close()

    def _read(self, reader: BinaryIO) -> Optional[Request]:
        self.may_read.wait()
        first = reader.readline()
        if not first:
            return None
        method, target, _ = first.decode("latin-1").split()
        fields: dict[str, str] = {}
        while (line := reader.readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            assert name.lower() not in fields
            fields[name.lower()] = value.strip()
        length = int(fields.get("content-length", 0))
        body = reader.read(length)
        if len(body) < length:
            return None
        request = Request(method, target, fields, body, time.monotonic())
        self.requests.append(request)
        return request

    def _answer(self, request: Request) -> bytes:
        with self._lock:
            behaviour = self.script.popleft() if self.script else self.always
        if behaviour is None:
            self._is_kept = not self.closes_behind_answers
            return self.take(request)
        data = behaviour(self, request)
        self._is_kept = b"keep-alive" in data
        return data

    def take(self, request: Request) -> bytes:
        """Takes the lines as the daemon does."""
        with self._lock:
            name = request.fields["luxcast-publisher"]
            before = self.accepted.get(name, 0)
            first = int(request.fields.get("luxcast-line", before + 1))
            accepted, refused = 0, []
            for number, line in enumerate(request.lines, first):
                if not line:
                    continue
                event = json.loads(line)
                if number > before and event["type"] in self.refuses:
                    refused.append({"line": number, "code": "bad_type", "message": "told to"})
                    continue
                accepted += 1
                if number > before:
                    self.accepted[name] = number
                    self.events.append(event)
            receipt = {
                "accepted": accepted,
                "refused": refused[: self.refused_max],
                "refused_total": len(refused),
                "stream_seq": 7,
                "accepted_line": self.accepted.get(name, 0),
            }
        status = 422 if refused and not accepted else 200
        then = {"Connection": "close"} if self.closes_behind_answers else {}
        return answer(status, receipt, Content_Type="application/json", **then)(self, request)


class Relay:
    """Relays each connection to a port of this machine, if there is one, and cuts it where the next plan says."""

    def __init__(self, port: int) -> None:
        self.to = port
        self.plans: deque[str] = deque()
        """For the next connections: `before` anything, `within` the body, `behind` the body, `answer` once the daemon has
        begun to answer, of which nothing arrives."""
        self.cuts: list[str] = []
        self._clients: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_up(self) -> None:
        """Ends the connections of clients."""
        for client in self._clients.copy():
            _end(client)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        plan = self.plans.popleft() if self.plans else ""
        self._clients.append(client)
        try:
            self._carry(client, plan)
        finally:
            self._clients.remove(client)

    def _carry(self, client: socket.socket, plan: str) -> None:
        with client:
            if plan == "before":
                self.cuts.append(plan)
                return
            try:
                daemon = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            with daemon:
                back = threading.Thread(target=self._back, args=(client, daemon, plan), daemon=True)
                back.start()
                self._forth(client, daemon, plan)
                back.join(PATIENCE)

    def _forth(self, client: socket.socket, daemon: socket.socket, plan: str) -> None:
        held = b""
        try:
            while data := client.recv(1 << 16):
                held += data
                head, end, body = held.partition(b"\r\n\r\n")
                is_batch = end and b"Luxcast-Line" in head
                if is_batch and plan in ("within", "behind"):
                    length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
                    if plan == "within":
                        data = data[: len(data) - len(body) + min(len(body), length) // 2]
                    if plan == "within" or len(body) >= length:
                        daemon.sendall(data)
                        self.cuts.append(plan)
                        break
                if end and not is_batch:
                    held = b""
                daemon.sendall(data)
        except OSError:
            pass
        _end(client)
        _end(daemon)

    def _back(self, client: socket.socket, daemon: socket.socket, plan: str) -> None:
        try:
            while data := daemon.recv(1 << 16):
                if plan == "answer":
                    self.cuts.append(plan)
                    break
                client.sendall(data)
        except OSError:
            pass
        _end(client)
        _end(daemon)


def _end(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
