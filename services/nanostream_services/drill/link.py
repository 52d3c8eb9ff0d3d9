"""A TCP link that can be cut, for the drill and for tests."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

__all__ = ["Link"]

_LOOPBACK = "127.0.0.1"
#: The link checks this often whether it is cut or over.
_TURN_S = 0.05


class Link(threading.Thread):
    """From a port of its own to another, both on loopback; what it holds when it is cut is lost.

    Parameters
    ----------
    to_port : int
        Where connections go.

    Attributes
    ----------
    port : int
        To connect to.
    cut, over : threading.Event
        While ``cut`` is set there is no connection; ``over`` ends the thread.
    bytes_lost : int
        What had been taken from one end and never reached the other.
    """

    def __init__(self, to_port: int) -> None:
        super().__init__(name=f"link to {to_port}", daemon=True)
        self._listener = socket.create_server((_LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self._to_port = to_port
        self._other_end: dict[socket.socket, socket.socket] = {}
        self.cut = threading.Event()
        self.over = threading.Event()
        self.bytes_lost = 0
        self.start()

    def run(self) -> None:
        """Carry until it is over."""
        while not self.over.is_set():
            if self.cut.is_set():
                self._drop()
            ready, _, _ = select.select([self._listener, *self._other_end], [], [], _TURN_S)
            for one in ready:
                if one is self._listener:
                    self._accept()
                elif one in self._other_end:
                    self._carry(one)
        self._drop()
        self._listener.close()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        if self.cut.is_set():
            near.close()
            return
        try:
            far = socket.create_connection((_LOOPBACK, self._to_port), 1.0)
        except OSError:
            near.close()
            return
        self._other_end |= {near: far, far: near}

    def _carry(self, one: socket.socket) -> None:
        other = self._other_end[one]
        try:
            data = one.recv(65536)
            if self.cut.is_set():
                self.bytes_lost += len(data)
                return
            if data:
                other.sendall(data)
                return
        except OSError:
            pass
        for end in (one, other):
            self._other_end.pop(end, None)
            end.close()

    def _drop(self) -> None:
        for end in self._other_end:
            with contextlib.suppress(OSError):
                end.setblocking(False)
                self.bytes_lost += len(end.recv(2**24))
            end.close()
        self._other_end.clear()
