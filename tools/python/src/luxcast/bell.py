"""Wakes the sender's thread from its wait for the socket."""

import socket


class Bell:
    """Two sockets: a ring writes a byte into one, and the sender waits for the other."""

    def __init__(self) -> None:
        self._hears, self._rings = socket.socketpair()
        self._hears.setblocking(False)
        self._rings.setblocking(False)

    def fileno(self) -> int:
        """The socket to wait for."""
        return self._hears.fileno()

    def ring(self) -> None:
        """Never waits: if the sockets are full of rings, another one adds nothing."""
        try:
            self._rings.send(b"\0")
        except OSError:
            pass

    def silence(self) -> None:
        """Forgets all rings so far."""
        try:
            while self._hears.recv(64):
                pass
        except OSError:
            pass

    def close(self) -> None:
        self._hears.close()
        self._rings.close()
