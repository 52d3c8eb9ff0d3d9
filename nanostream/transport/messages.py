"""Records to byte parts and back: a msgpack header, then the raw buffers.

The header is the record itself. Where it has an array stands the number of its buffer, its dtype
and its shape. Nothing here knows a socket. Whatever comes in is checked before it is used: protocol
version, number of parts, dtype, shape against the buffer's length, ids and sizes; a peer that sends
anything else gets a `MessageError`, never a crash and never an allocation of his choosing. There
is no pickle. docs/formats/messages.md describes the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Annotated, Any, get_args

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from nanostream.errors import MessageError
from nanostream.records import (
    PARTICLE_DTYPE,
    SHAPE_CLASSES,
    UNCLASSIFIED,
    Frame,
    Labels,
    Measure,
    Particles,
    Pixels,
    Probability,
    Result,
    Role,
    SectionId,
    Snapshot,
    TrackerSettings,
)

__all__ = [
    "PROTOCOL",
    "Ack",
    "Beat",
    "Crashed",
    "Done",
    "Events",
    "Failed",
    "Goodbye",
    "Later",
    "Message",
    "Pong",
    "Quarantine",
    "Ready",
    "Report",
    "Retried",
    "decode",
    "encode",
]

#: Raised with every change of the bytes; peers of another version are refused by name.
PROTOCOL = 5

#: SerialEM cannot write a larger section (KStoreMRC.cpp computes its size in a 32-bit int).
MAX_SECTION_BYTES = 2**31 - 1
MAX_HEADER_BYTES = 2**20
MAX_SIDE_PX = 2**16
MAX_HOLDING = 1024
MAX_EVENTS = 64
MAX_TEXT = 512
MAX_PARTICLES = 10**7
PIXEL_DTYPES = ("|i1", "|u1", "<i2", "<u2", "<f2", "<f4")

Buffer = bytes | memoryview
Number = Annotated[int, Meta(ge=0, lt=2**62)]


class Beat(Struct, frozen=True, tag="beat"):
    """A worker's sign of life, to agent and sink: what it holds, what it is computing.

    The first one introduces it; ``slots`` is the worker's credit. One is sent at once whenever a
    computation starts, so that a crash counts against the right section. ``received`` is the
    highest number of a frame that came, ``link`` counts how often the connection was made.
    ``model`` is the name of the worker's model and its weights' SHA-256; while it is ``loading``
    them it cannot compute yet. ``agent`` is the instance of the agent that it heard last: a beat
    for another one, before that has answered, does not know of frames that are still on their way.
    ``time_s`` is the POSIX time by the sender's clock.
    """

    slots: Annotated[int, Meta(ge=0, le=MAX_HOLDING)]
    holding: Annotated[tuple[SectionId, ...], Meta(max_length=MAX_HOLDING)] = ()
    computing: SectionId | None = None
    detail: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    received: Number = 0
    link: int = 0
    model: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    loading: bool = False
    agent: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    time_s: float = math.nan


class Pong(Struct, frozen=True, tag="pong"):
    """Answer to a sign of life. Another ``instance`` than before: the peer was restarted.

    ``kept`` is the number of the last event that is kept, ``retry`` are quarantined sections that
    the operator wants tried again. Unless the peer is known to be ``ready`` it reports so again, if
    it is.
    """

    instance: str
    normalization_maximum: float | None = None
    kept: int = 0
    retry: tuple[SectionId, ...] = ()
    ready: bool = False


class Ready(Struct, frozen=True, tag="ready"):
    """A process can play its part from now on; ``since_s`` is its POSIX time."""

    role: Role
    since_s: Annotated[float, Meta(ge=0, lt=1e12)]


class Done(Struct, frozen=True, tag="done"):
    """The sink has committed this section's result."""

    section: SectionId


class Failed(Struct, frozen=True, tag="failed"):
    """A worker cannot segment the section."""

    section: SectionId
    reason: str


class Goodbye(Struct, frozen=True, tag="goodbye"):
    """A worker takes nothing more; it still finishes ``finishing``."""

    finishing: tuple[SectionId, ...] = ()


class Ack(Struct, frozen=True, tag="ack"):
    """The sink has committed a result or a quarantine."""

    section: SectionId


class Later(Struct, frozen=True, tag="later"):
    """The sink could not store the result now: the disk is full, say. Send it again."""

    section: SectionId


class Quarantine(Struct, frozen=True, tag="quarantine"):
    """The agent gives a section up."""

    section: SectionId
    reason: str
    attempts: Annotated[int, Meta(gt=0, lt=2**31)]
    stream: TrackerSettings | None = None


class Retried(Struct, frozen=True, tag="retried"):
    """The agent has taken a section out of quarantine, to try it again."""

    section: SectionId


class Report(Struct, frozen=True, tag="report"):
    """The agent's counts, for the dashboard.

    ``unsettled``: files that may still bring or change a section, as far as can be told; at least 1
    before there is any file. ``trouble`` is why the folder or the agent's memory cannot be used,
    ``away`` that it is the folder; ``time_s`` is the POSIX time by the sender's clock.
    """

    seen: int
    waiting: int
    in_work: int
    longest_wait_s: float = 0.0
    unsettled: int = 0
    trouble: Annotated[str, Meta(max_length=MAX_TEXT)] = ""
    away: bool = False
    time_s: float = math.nan


class Crashed(Struct, frozen=True, tag="crashed"):
    """A process that the supervisor saw end by itself, and why."""

    role: Role
    process_id: int
    reason: Annotated[str, Meta(max_length=MAX_TEXT)] = ""


class Events(Struct, frozen=True, tag="events"):
    """Events that the operator should read, numbered by their sender, until the sink keeps them."""

    events: Annotated[tuple[tuple[Number, str], ...], Meta(max_length=MAX_EVENTS)] = ()


Message = (
    Beat
    | Pong
    | Ready
    | Done
    | Failed
    | Goodbye
    | Ack
    | Later
    | Quarantine
    | Retried
    | Report
    | Crashed
    | Events
    | Frame
    | Result
    | Snapshot
)

#: Types that an array of a record may have on its way.
_DTYPES: dict[Any, tuple[str, ...]] = {
    Pixels: PIXEL_DTYPES,
    Labels: ("<u2", "<u4"),
    Probability: ("|u1",),
}
_PREFIX = b"nanostream" + bytes([PROTOCOL])


class _Array(Struct, frozen=True, array_like=True):
    """Stand-in for an array in a header."""

    buffer: int
    dtype: str
    shape: tuple[int, ...]


class _Buffers:
    """Arrays of one message: put beside the header, and taken from there."""

    def __init__(self, parts: Sequence[Buffer] = ()) -> None:
        self.parts = list(parts)
        self._taken: set[int] = set()

    def put(self, array: Any) -> _Array:
        """Stand-in for an array, whose buffer is put beside the header without a copy."""
        if not isinstance(array, np.ndarray):
            msg = f"{type(array).__name__} does not travel"
            raise NotImplementedError(msg)
        flat = array.dtype.names is not None  # a table has no memoryview
        self.parts.append(array.tobytes() if flat else np.ascontiguousarray(array).data)
        return _Array(len(self.parts) - 1, array.dtype.str, array.shape)

    def take(self, kind: Any, found: Any) -> NDArray[Any]:
        """Array of a record's field from its buffer, if it can be one."""
        array = msgspec.convert(found, _Array)
        _expect(0 <= array.buffer < len(self.parts), f"buffer {array.buffer} of {len(self.parts)}")
        _expect(array.buffer not in self._taken, f"buffer {array.buffer} for two arrays")
        self._taken.add(array.buffer)
        buffer = self.parts[array.buffer]
        if kind == Particles:
            return _table(buffer, array.shape)
        _expect(array.dtype in _DTYPES[kind], f"array of type {array.dtype!r}")
        return _image(buffer, array.shape, np.dtype(array.dtype))

    @property
    def left(self) -> int:
        """Number of buffers that no array has taken."""
        return len(self.parts) - len(self._taken)


#: Buffers of the message that is being decoded. There is one decoder: to make one takes 0.1 ms.
_DECODED: ContextVar[_Buffers] = ContextVar("_DECODED")
_DECODER = msgspec.msgpack.Decoder(
    Message, dec_hook=lambda kind, found: _DECODED.get().take(kind, found)
)


def encode(message: Message) -> list[Buffer]:
    """Parts of a message; pixel buffers are views, not copies."""
    if isinstance(message, Frame):
        _check_pixels(message.pixels)
    buffers = _Buffers()
    header = msgspec.msgpack.Encoder(enc_hook=buffers.put).encode(message)
    return [_PREFIX + header, *buffers.parts]


def decode(parts: Sequence[bytes | memoryview]) -> Message:
    """The message of some parts, arrays as views of the buffers.

    Raises
    ------
    MessageError
        If the parts are not exactly what `encode` makes of a valid record.
    """
    if not parts or len(parts[0]) > MAX_HEADER_BYTES:
        msg = f"message of {len(parts)} parts with a header out of range"
        raise MessageError(msg)
    head = bytes(parts[0])
    if not head.startswith(_PREFIX):
        if head.startswith(_PREFIX[:-1]) and len(head) > len(_PREFIX):
            msg = f"peer speaks protocol {head[len(_PREFIX) - 1]}, this is {PROTOCOL}: update one"
        else:
            msg = "bytes are no nanostream message"
        raise MessageError(msg)
    buffers = _Buffers(parts[1:])
    decoded = _DECODED.set(buffers)
    try:
        message = _DECODER.decode(memoryview(head)[len(_PREFIX) :])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        msg = f"header does not parse: {error}"
        raise MessageError(msg) from error
    finally:
        _DECODED.reset(decoded)
    _expect(not buffers.left, f"{type(message).__name__} carries {buffers.left} stray buffers")
    if isinstance(message, Result):
        _check_result(message)
    return message


def _check_result(result: Result) -> None:
    """Refuse a result that is of the right types and cannot be."""
    _expect(
        result.labels.shape == result.probability.shape,
        f"labels of {result.labels.shape}, probability of {result.probability.shape}",
    )
    _expect(result.summary.count == len(result.particles), "summary and particle table disagree")
    for name in ("x", "y"):
        finite = np.isfinite(result.particles[name]).all()
        _expect(bool(finite), f"a particle's {name} is not a number")
    for name in (f"{measure}_{unit}" for measure in get_args(Measure) for unit in ("px", "nm")):
        sizes = result.particles[name]
        right = (sizes > 0) & np.isfinite(sizes)
        if name.endswith("_nm"):
            right |= np.isnan(sizes)  # the pixel size is not known
        _expect(
            bool(right.all()), f"a particle's {name} is not a length above 0: {sizes[~right][:1]}"
        )
    known = np.isin(result.particles["shape_class"], (*SHAPE_CLASSES, UNCLASSIFIED)).all()
    _expect(bool(known), "a particle's shape class is none")
    score = result.domain_score
    _expect(math.isnan(score) or 0 <= score <= 1, f"domain score {score}")


def _table(buffer: Buffer, shape: tuple[int, ...]) -> NDArray[np.void]:
    _expect(len(shape) == 1 and 0 <= shape[0] <= MAX_PARTICLES, f"particle table of {shape}")
    size = memoryview(buffer).nbytes
    expected = shape[0] * PARTICLE_DTYPE.itemsize
    _expect(size == expected, f"buffer of {size} bytes for {shape[0]} particles")
    return np.frombuffer(buffer, PARTICLE_DTYPE)


def _image(buffer: Buffer, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    _expect(len(shape) == 2, f"image of {shape}")
    height, width = shape
    _expect(0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX, f"image of {shape}")
    expected = height * width * dtype.itemsize
    size = memoryview(buffer).nbytes
    _expect(expected <= MAX_SECTION_BYTES, f"image of {expected} bytes")
    _expect(size == expected, f"buffer of {size} bytes for {shape} {dtype}")
    return np.frombuffer(buffer, dtype).reshape(shape)


def _check_pixels(pixels: NDArray[Any]) -> None:
    _expect(max(pixels.shape) <= MAX_SIDE_PX, f"image of {pixels.shape}")
    if pixels.dtype.str not in PIXEL_DTYPES:
        msg = (
            f"pixels of type {pixels.dtype} do not travel; convert to one of "
            f"{', '.join(PIXEL_DTYPES)}"
        )
        raise MessageError(msg)


def _expect(condition: bool, what: str) -> None:
    if not condition:
        msg = f"refused message: {what}"
        raise MessageError(msg)
