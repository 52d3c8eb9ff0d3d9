"""ZeroMQ: the only module that imports it.

`Server` (ROUTER, binds), `Client` (DEALER, connects), `Desk` (ROUTER for SerialEM's scripts),
`Publisher` and `Subscriber` (newest snapshot only), `Waker` (another thread wakes the loop) and
`wait` (which of them have something).
Sockets never block: a full or absent peer is a False, and who called decides.
"""

from __future__ import annotations

import contextlib
import secrets
import socket as socket_module
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol, get_args

import zmq
from zmq.utils import z85

from nanostream.config import Network, is_loopback
from nanostream.errors import ConfigError, MessageError
from nanostream.records import Snapshot
from nanostream.transport.keys import Keys, load_keys
from nanostream.transport.messages import Message, decode, encode

__all__ = [
    "Client",
    "Desk",
    "Publisher",
    "Server",
    "Subscriber",
    "Waker",
    "check_free",
    "free_network",
    "free_ports",
    "handshake",
    "new_key_pair",
    "refusals",
    "wait",
]

PortName = Literal["frames", "results", "snapshots", "queries"]

#: A buffer larger than this is handed to ZeroMQ without a copy.
_NO_COPY_BYTES = 65536
#: Messages that may wait in a socket for a slow peer; pixels are bounded by credits besides.
_QUEUE = 64
_HEARTBEAT_MS = 2000
#: A peer that acknowledges no bytes for so long is gone; the system sees that, however slow the
#: line and large the frame that is under way.
_DEAD_AFTER_MS = 10000
#: ZeroMQ's own sign of life waits behind that frame: this is the time that one may take.
_LONGEST_FRAME_MS = 180000
#: Of one try to connect. The system's own waits twice as long from try to try, so a link that was
#: cut for a minute would be found again only after another.
_CONNECT_WITHIN_MS = 3000


class Pollable(Protocol):
    """Something that `wait` can wait for."""

    socket: zmq.Socket[bytes]


def new_key_pair() -> tuple[bytes, bytes]:
    """Public and secret CURVE key, in Z85."""
    public, secret = zmq.curve_keypair()
    return public, secret


@dataclass(frozen=True)
class _Place:
    """Where a port is and by which keys it is reached; None on loopback without keys."""

    address: str
    keys: Keys | None
    server_key: bytes
    what: str

    @classmethod
    def of(cls, network: Network, port: PortName) -> _Place:
        host = getattr(network, f"{port}_host") or network.host
        number = getattr(network, f"{port}_port")
        name = network.frames_server if port == "frames" else network.results_server
        keys = load_keys(Path(network.keys)) if network.keys else None
        if keys is None and not is_loopback(host):
            msg = (
                f"[network] {port}_host: {host!r} is reachable from other machines, which needs "
                "keys; nanostream keys create makes them, [network] keys names their folder"
            )
            raise ConfigError(msg)
        bracketed = {"localhost": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)
        return cls(
            address=f"tcp://{bracketed}:{number}",
            keys=keys,
            server_key=keys.of_server(name) if keys else b"",
            what=f"[network] {port}_port: {number} on {host}",
        )

    def bind(self, socket: zmq.Socket[bytes]) -> None:
        if self.keys is not None:
            _Door.of(self.keys)
            socket.curve_server = True
            socket.curve_publickey, socket.curve_secretkey = self.keys.public, self.keys.secret
        try:
            socket.bind(self.address)
        except zmq.ZMQError as error:
            socket.close()
            msg = (
                f"{self.what} cannot be bound: {error.strerror}; stop the other nanostream "
                "session, or give this one other ports in the [network] of its --config"
            )
            raise ConfigError(msg) from error

    def connect(self, socket: zmq.Socket[bytes]) -> None:
        if self.keys is not None:
            socket.curve_publickey, socket.curve_secretkey = self.keys.public, self.keys.secret
            socket.curve_serverkey = self.server_key
        socket.connect(self.address)


class _Door:
    """Answers ZeroMQ's question whether a key may come in (ZAP, RFC 27); one per process."""

    _only: ClassVar[_Door | None] = None

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self.refused: list[str] = []
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind("inproc://zeromq.zap.01")

    @classmethod
    def of(cls, keys: Keys) -> _Door:
        if cls._only is None:
            cls._only = cls(keys)
        cls._only.keys = keys
        return cls._only

    @classmethod
    def open(cls) -> list[_Door]:
        return [cls._only] if cls._only is not None else []

    def answer(self) -> None:
        while (request := _receive(self.socket)) is not None:
            version, sequence, _, address, _, mechanism, *credentials = (p.bytes for p in request)
            key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
            name = self.keys.trusted().get(key)
            code, text = (b"200", b"OK") if name else (b"400", b"not trusted")
            if name is None:
                where, shown = address.decode("ascii", "replace"), key.decode("ascii", "replace")
                self.refused.append(f"a connection from {where} with the unknown key {shown}")
                del self.refused[:-_QUEUE]
            user = (name or "").encode()
            self.socket.send_multipart([version, sequence, code, text, user, b""])


def refusals() -> list[str]:
    """Connections refused since the last call, for the operator."""
    texts: list[str] = []
    for door in _Door.open():
        texts += door.refused
        door.refused.clear()
    return texts


def _socket(kind: int, *, largest_bytes: int) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(kind)
    socket.linger = 0
    socket.sndhwm = socket.rcvhwm = _QUEUE
    socket.setsockopt(zmq.MAXMSGSIZE, largest_bytes)
    socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _LONGEST_FRAME_MS)
    socket.setsockopt(zmq.TCP_MAXRT, _DEAD_AFTER_MS)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, _CONNECT_WITHIN_MS)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    return socket


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
    network : Network
        Hosts, ports and keys.
    port : str
        Which of the ports.
    largest_bytes : int
        A part larger than this closes the peer's connection before it is read.

    Raises
    ------
    ConfigError
        If the port is taken, or reachable from other machines and there are no keys.
    """

    def __init__(self, network: Network, port: PortName, *, largest_bytes: int) -> None:
        place = _Place.of(network, port)
        self.instance = uuid.uuid4().hex
        self.socket = _socket(zmq.ROUTER, largest_bytes=largest_bytes)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        place.bind(self.socket)

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
    """Connects, and keeps connecting; its peer may come later or come back.

    Parameters
    ----------
    name : str
        What the server knows this client by; unique, ASCII.
    """

    def __init__(self, network: Network, port: PortName, *, name: str, largest_bytes: int) -> None:
        place = _Place.of(network, port)
        self.socket = _socket(zmq.DEALER, largest_bytes=largest_bytes)
        self.socket.setsockopt(zmq.ROUTING_ID, name.encode())
        self._made = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._times_made = 0
        place.connect(self.socket)

    @property
    def link(self) -> int:
        """How many times the connection was made; what was under way in an earlier one is lost."""
        while _receive(self._made) is not None:
            self._times_made += 1
        return self._times_made

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
        self.socket.disable_monitor()
        self._made.close()
        self.socket.close(linger=round(linger_s * 1000))


class Desk:
    """Binds for scripts that ask with REQ (or DEALER) sockets, one part of bytes each way.

    Parameters
    ----------
    network : Network
        Hosts, ports and keys.
    largest_bytes : int
        A part larger than this closes the asker's connection before it is read.

    Raises
    ------
    ConfigError
        If the port is taken, or reachable from other machines and there are no keys.
    """

    #: Questions taken in one turn, so that an asker in a loop cannot keep the sink from its work.
    MOST_AT_ONCE = 100

    def __init__(self, network: Network, *, largest_bytes: int) -> None:
        place = _Place.of(network, "queries")
        self.socket = _socket(zmq.ROUTER, largest_bytes=largest_bytes)
        place.bind(self.socket)

    def receive(self) -> Iterator[tuple[bytes, bytes]]:
        """Askers and what they ask; what has not the parts of a question comes as no bytes."""
        for _ in range(self.MOST_AT_ONCE):
            parts = _receive(self.socket)
            if parts is None:
                return
            asked = len(parts) == 3 and not parts[1].bytes
            yield parts[0].bytes, parts[2].bytes if asked else b""

    def send(self, asker: bytes, body: bytes) -> None:
        """Answer; an asker that has gone is not missed."""
        with contextlib.suppress(zmq.ZMQError):
            self.socket.send_multipart([asker, b"", body], zmq.DONTWAIT)

    def close(self) -> None:
        """Close; answers get a moment to leave."""
        self.socket.close(linger=200)


class Publisher:
    """Tells whoever listens the newest snapshot."""

    def __init__(self, network: Network) -> None:
        place = _Place.of(network, "snapshots")
        self.socket = _socket(zmq.PUB, largest_bytes=2**20)
        self.socket.sndhwm = 2
        place.bind(self.socket)

    def send(self, snapshot: Snapshot) -> None:
        """Publish; a listener that is slow misses snapshots, nothing else."""
        _send(self.socket, [], snapshot)

    def close(self) -> None:
        """Close; the last snapshot gets a moment to leave."""
        self.socket.close(linger=200)


class Subscriber:
    """Hears the newest snapshot; older ones are dropped unread."""

    def __init__(self, network: Network) -> None:
        place = _Place.of(network, "snapshots")
        self.socket = _socket(zmq.SUB, largest_bytes=2**24)
        self.socket.setsockopt(zmq.CONFLATE, 1)
        self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        place.connect(self.socket)

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
        """Clear the wake-ups."""
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
    doors = _Door.open()
    for door in doors:
        poller.register(door.socket, zmq.POLLIN)
    ready = {socket for socket, _ in poller.poll(max(0, round(timeout_s * 1000)))}
    for door in doors:
        door.answer()
    return [source for source in sources if source.socket in ready]


def check_free(network: Network) -> None:
    """Check that a session can have its ports, before anything is started.

    Raises
    ------
    ConfigError
        If one is taken, or reachable from other machines and there are no keys.
    """
    for port in get_args(PortName):
        place = _Place.of(network, port)
        host, _, number = place.address.removeprefix("tcp://").rpartition(":")
        try:
            with socket_module.create_server((host.strip("[]"), int(number))):
                pass
        except OSError as error:
            # Python names the address again behind the reason.
            why = (error.strerror or str(error)).partition(" (while attempting")[0]
            msg = (
                f"{place.what} cannot be bound: {why}; stop the other nanostream session, or give "
                "this one other ports in the [network] of its --config"
            )
            raise ConfigError(msg) from error


def handshake(network: Network, port: PortName, *, timeout_s: float) -> str:
    """Connect as a client would, say nothing, and leave.

    Returns
    -------
    str
        Empty if the port answers and, where there are keys, both ends proved theirs; else why not.

    Raises
    ------
    ConfigError
        If the keys of this machine cannot be used.
    """
    from zmq.utils.monitor import recv_monitor_message  # with asyncio, which nothing else needs

    place = _Place.of(network, port)
    socket = _socket(zmq.DEALER, largest_bytes=2**20)
    events = socket.get_monitor_socket()
    deadline_s = time.monotonic() + timeout_s
    trouble = "nothing answers"
    try:
        place.connect(socket)
        while (left_s := deadline_s - time.monotonic()) > 0 and events.poll(round(left_s * 1000)):
            event = recv_monitor_message(events)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                return ""
            if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                return "it does not trust this machine's key"
            if event == zmq.EVENT_CONNECTED:  # and if no more comes than the end of it:
                trouble = "it answers, and does not prove that it has the key it should"
    finally:
        socket.disable_monitor()
        events.close()
        socket.close()
    return trouble


def free_network() -> dict[str, int]:
    """Keys of ``[network]`` with ports on loopback that are free at this moment."""
    names = get_args(PortName)
    ports = free_ports(len(names))
    return {f"{name}_port": port for name, port in zip(names, ports, strict=True)}


def free_ports(count: int) -> list[int]:
    """Ports on loopback that are free at this moment, for the demo and the tests.

    Below the range that outgoing connections take theirs from (32768 on Linux, 49152 on Windows):
    there a client that waits for its server can take the port, or even connect to itself.
    """
    with contextlib.ExitStack() as stack:
        probes: list[socket_module.socket] = []
        while len(probes) < count:
            probe = stack.enter_context(socket_module.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", 20000 + secrets.randbelow(12000)))
                probes.append(probe)
        return [int(probe.getsockname()[1]) for probe in probes]
