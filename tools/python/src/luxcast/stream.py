"""A connection to a host, over TCP or TLS. It waits for the network in one function alone, which its user gives: that
looks after other things meanwhile, and may end the wait."""

from __future__ import annotations

import errno
import io
import os
import selectors
import socket
import ssl
import time
from typing import Any, Callable, Optional

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

Pause = Callable[[socket.socket, int, float], int]
"""Waits until the socket is ready for these events or until that time of `time.monotonic`. Returns the events; 0: the
time is over."""

CONNECT_SECONDS_MAX = 10.0
"""For one address, and for the handshake of TLS."""

STALLED_SECONDS_MAX = 60.0
"""How long the other side may take no byte. The daemon may wait for watchers before it takes more."""

ADDRESSES_MAX = 8
"""How many addresses of a name are tried."""

READ_BYTES = 1 << 16


class Stream:
    """Raises OSError for what the network or the other side does."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._socket: Optional[socket.socket] = None
        self._tls: Optional[ssl.SSLObject] = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ahead = bytearray()
        """Bytes that were read before anybody asked for them."""
        self._is_over = False
        """Nothing more will come."""
        self._bytes_left = 0
        self._until = 0.0

    def connect(self, host: str, port: int) -> None:
        failure = OSError(f"{host} has no address")
        for family, kind, protocol, _, address in self._addresses(host, port):
            self._socket = socket.socket(family, kind, protocol)
            try:
                self._connect(self._socket, address)
                return
            except OSError as error:
                self.close()
                failure = error
        raise failure

    @staticmethod
    def _addresses(host: str, port: int) -> list[tuple[Any, ...]]:
        try:
            return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))[:ADDRESSES_MAX]
        except UnicodeError:  # a name with an empty or a long part
            raise OSError(f"{host} is no name of a host") from None

    def _connect(self, new: socket.socket, address: Any) -> None:
        new.setblocking(False)
        new.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = new.connect_ex(address)
        if code in (errno.EINPROGRESS, errno.EAGAIN, errno.EINTR):
            self._wait(WRITE, time.monotonic() + CONNECT_SECONDS_MAX)
            code = new.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.expect(READ_BYTES * 16, CONNECT_SECONDS_MAX)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._write(self._outgoing.read())
                self._receive()
            except ssl.SSLError:
                self._tell_alert()
                raise
        self._write(self._outgoing.read())

    def _tell_alert(self) -> None:
        """So that the other side can log what is wrong with its certificate."""
        try:
            if self._socket is not None:
                self._socket.send(self._outgoing.read())
        except OSError:
            pass

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def is_open(self) -> bool:
        return self._socket is not None

    def close(self) -> None:
        """Says nothing to the other side: after a fork, the connection is the parent's."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def expect(self, bytes_max: int, seconds: float) -> None:
        """Bounds what is read from now on, in size and in time."""
        self._bytes_left = bytes_max
        self._until = time.monotonic() + seconds

    def is_quiet(self) -> bool:
        """Whether nothing has come that nobody asked for, and no end."""
        try:
            return not self._read_ahead()
        except OSError:
            return False

    def send(self, data: bytes) -> bool:
        """False: the other side has answered, or has gone, before it took all of it."""
        if self._tls is not None:
            left = memoryview(data)
            while left:
                left = left[self._tls.write(left) :]
            data = self._outgoing.read()
        return self._write(data)

    def _write(self, data: bytes) -> bool:
        left = memoryview(data)
        assert self._socket is not None
        while left:
            try:
                left = left[self._socket.send(left) :]
                continue
            except (BlockingIOError, InterruptedError):
                pass
            except (BrokenPipeError, ConnectionResetError):
                # What it said before may still be there.
                return False
            events = self._wait(READ | WRITE, time.monotonic() + STALLED_SECONDS_MAX)
            if events & READ and self._read_ahead():
                return False
        return True

    def makefile(self, mode: str) -> io.BufferedReader:
        """What `http.client` reads from. Closing it does not close the connection."""
        return io.BufferedReader(_Reader(self))

    def read_into(self, buffer: memoryview) -> int:
        """0: nothing more will come."""
        while not self._ahead and not self._is_over:
            if not self._read_ahead():
                self._wait(READ, self._until)
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        del self._ahead[:count]
        return count

    def _read_ahead(self) -> bool:
        """Reads what is there, without waiting. False: nothing is."""
        if self._ahead or self._is_over:
            return True
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        self._bytes_left -= len(data)
        self._is_over = not data
        if self._tls is None:
            self._ahead += data
        else:
            self._decrypt(self._tls, data)
        if self._bytes_left < 0 and self._ahead:
            raise ConnectionAbortedError("what answers there is not the daemon: its answer has no end")
        return bool(self._ahead) or self._is_over

    def _decrypt(self, tls: ssl.SSLObject, data: bytes) -> None:
        self._incoming.write(data)
        if self._is_over:
            self._incoming.write_eof()
        try:
            while more := tls.read(READ_BYTES):
                self._ahead += more
            self._is_over = True
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._is_over = True

    def _receive(self) -> None:
        """Waits for bytes of the handshake."""
        assert self._socket is not None
        while True:
            try:
                data = self._socket.recv(READ_BYTES)
                break
            except (BlockingIOError, InterruptedError):
                self._wait(READ, self._until)
        if not data:
            raise ConnectionResetError("the other side closed the connection within the handshake of TLS")
        self._incoming.write(data)

    def _wait(self, events: int, until: float) -> int:
        assert self._socket is not None
        ready = self._pause(self._socket, events, until)
        if not ready:
            raise TimeoutError("the other side does not answer")
        return ready


class _Reader(io.RawIOBase):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.read_into(memoryview(buffer))
