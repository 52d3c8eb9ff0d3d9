"""ZeroMQ: the only module that imports it.

`Server` (ROUTER, binds), `Client` (DEALER, connects), `Publisher` and `Subscriber` (newest
snapshot only), `Waker` (another thread wakes the loop) and `wait` (which of them have something).
Sockets never block: a full or absent peer is a False, and who called decides.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator, Sequence
from typing import Protocol

import zmq

from nanostream.errors import ConfigError, MessageError
from nanostream.records import Snapshot
from nanostream.transport.messages import Message, decode, encode

__all__ = ["Client", "Publisher", "Server", "Subscriber", "Waker", "free_ports", "wait"]

#: A buffer larger than this is handed to ZeroMQ without a copy.
_NO_COPY_BYTES = 65536
#: Messages that may wait in a socket for a slow peer; pixels are bounded by credits besides.
_QUEUE = 64
_HEARTBEAT_MS = 2000
_DEAD_AFTER_MS = 10000


class Pollable(Protocol):
    """Something that `wait` can wait for."""

    socket: zmq.Socket[bytes]


def _loopback(host: str) -> str:
    """The host, if only this machine can reach it."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        msg = (
            f"[network] host: {host!r} is reachable from other machines and this version has no "
            "keys yet; use 127.0.0.1, and ssh -L between machines"
        )
        raise ConfigError(msg)
    return f"[{host}]" if ":" in host else host


def _socket(kind: int, *, largest_bytes: int) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = _QUEUE
    socket.setsockopt(zmq.MAXMSGSIZE, largest_bytes)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _DEAD_AFTER_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    return socket


def _bind(socket: zmq.Socket[bytes], host: str, port: int, what: str) -> None:
    host = _loopback(host)
    try:
        socket.bind(f"tcp://{host}:{port}")
    except zmq.ZMQError as error:
        socket.close()
        msg = (
            f"[network] {what}_port: {port} cannot be bound on {host}: {error.strerror}; "
            "stop the other nanostream session or choose another port"
        )
        raise ConfigError(msg) from error


def _send(socket: zmq.Socket[bytes], head: list[bytes], message: Message) -> bool:
    try:
        socket.send_multipart(
            [*head, *encode(message)], zmq.DONTWAIT, copy=False, copy_threshold=_NO_COPY_BYTES
        )
    except (zmq.Again, zmq.ZMQError):  # full, or the peer is gone: the caller sends again later
        return False
    return True


def _receive(socket: zmq.Socket[bytes]) -> list[zmq.Frame] | None:
    try:
        return socket.recv_multipart(zmq.DONTWAIT, copy=False)
    except zmq.Again:
        return None


class Server:
    """Binds; knows its peers by the names they give themselves.

    Parameters
    ----------
    host, port
        Where; only loopback without keys.
    what : str
        Name of the port in the configuration, for messages.
    largest_bytes : int
        A part larger than this closes the peer's connection before it is read.
    """

    def __init__(self, host: str, port: int, *, what: str, largest_bytes: int) -> None:
        self.instance = uuid.uuid4().hex
        self.socket = _socket(zmq.ROUTER, largest_bytes=largest_bytes)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        _bind(self.socket, host, port, what)

    def send(self, peer: str, message: Message) -> bool:
        """Whether the message left for the peer."""
        return _send(self.socket, [peer.encode()], message)

    def receive(self) -> Iterator[tuple[str, Message | MessageError]]:
        """All that has arrived; a message that is none comes as the error, with its peer."""
        while (parts := _receive(self.socket)) is not None:
            peer = parts[0].bytes.decode("ascii", "backslashreplace")
            try:
                yield peer, decode([part.buffer for part in parts[1:]])
            except MessageError as error:
                yield peer, error

    def close(self) -> None:
        """Close at once; nothing unsent is waited for."""
        self.socket.close()


class Client:
    """Connects, and goes on connecting; its peer may come later or come back.

    Parameters
    ----------
    name : str
        What the server knows this client by; unique, ASCII.
    """

    def __init__(self, host: str, port: int, *, name: str, largest_bytes: int) -> None:
        self.socket = _socket(zmq.DEALER, largest_bytes=largest_bytes)
        self.socket.setsockopt(zmq.ROUTING_ID, name.encode())
        self.socket.connect(f"tcp://{_loopback(host)}:{port}")

    def send(self, message: Message) -> bool:
        """Whether the message was taken for sending."""
        return _send(self.socket, [], message)

    def receive(self) -> Iterator[Message | MessageError]:
        """All that has arrived."""
        while (parts := _receive(self.socket)) is not None:
            try:
                yield decode([part.buffer for part in parts])
            except MessageError as error:
                yield error

    def close(self, *, linger_s: float = 0.0) -> None:
        """Close; wait at most ``linger_s`` until what was sent has left."""
        self.socket.close(linger=round(linger_s * 1000))


class Publisher:
    """Tells whoever listens the newest snapshot."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = _socket(zmq.PUB, largest_bytes=2**20)
        self.socket.sndhwm = 2
        _bind(self.socket, host, port, "snapshots")

    def send(self, snapshot: Snapshot) -> None:
        """Publish; a listener that is slow misses snapshots, nothing else."""
        _send(self.socket, [], snapshot)

    def close(self) -> None:
        """Close; the last snapshot gets a moment to leave."""
        self.socket.close(linger=200)


class Subscriber:
    """Hears the newest snapshot; older ones are dropped unread."""

    def __init__(self, host: str, port: int) -> None:
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.CONFLATE, 1)
        self.socket.setsockopt(zmq.MAXMSGSIZE, 2**24)
        self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.socket.connect(f"tcp://{_loopback(host)}:{port}")

    def receive(self) -> Snapshot | None:
        """The newest snapshot since the last call, or None."""
        parts = _receive(self.socket)
        if parts is None:
            return None
        message = decode([part.buffer for part in parts])
        return message if isinstance(message, Snapshot) else None

    def close(self) -> None:
        """Close."""
        self.socket.close()


class Waker:
    """Lets another thread wake the loop; only one other thread may call `wake`."""

    def __init__(self) -> None:
        address = f"inproc://{uuid.uuid4().hex}"
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.socket: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self.socket.bind(address)
        self._other: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self._other.sndhwm = 1
        self._other.connect(address)
        self.socket.linger = self._other.linger = 0

    def wake(self) -> None:
        """Make the loop's `wait` return; enough wakes pending is fine."""
        try:
            self._other.send(b"", zmq.DONTWAIT)
        except (zmq.Again, zmq.ZMQError):
            return

    def clear(self) -> None:
        """Take the wake-ups as heard."""
        while _receive(self.socket) is not None:
            pass

    def close(self) -> None:
        """Close both ends; the other thread must have ended."""
        self._other.close()
        self.socket.close()


def wait(sources: Sequence[Pollable], timeout_s: float) -> list[Pollable]:
    """Those sources that have something to read, after ``timeout_s`` at most."""
    poller = zmq.Poller()
    for source in sources:
        poller.register(source.socket, zmq.POLLIN)
    ready = {socket for socket, _ in poller.poll(max(0, round(timeout_s * 1000)))}
    return [source for source in sources if source.socket in ready]


def free_ports(count: int) -> list[int]:
    """Ports on loopback that are free at this moment, for the demo and the tests."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    sockets = [context.socket(zmq.PAIR) for _ in range(count)]
    ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in sockets]
    for socket in sockets:
        socket.close(linger=0)
    return ports
