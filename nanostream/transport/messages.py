"""Records to byte parts and back: a msgpack header, then the raw buffers.

Nothing here knows a socket. Whatever comes in is checked before it is used: protocol version,
number of parts, dtype, shape against the buffer's length, ids and sizes; a peer that sends
anything else gets a `MessageError`, never a crash and never an allocation of his choosing. There
is no pickle. docs/formats/messages.md describes the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from nanostream.errors import MessageError
from nanostream.records import (
    PARTICLE_DTYPE,
    Frame,
    Metadata,
    Result,
    SectionId,
    Snapshot,
    Summary,
)

__all__ = [
    "PROTOCOL",
    "Ack",
    "Beat",
    "Done",
    "Failed",
    "Goodbye",
    "Later",
    "Message",
    "Pong",
    "Quarantine",
    "Report",
    "Retried",
    "Words",
    "decode",
    "encode",
]

#: Raised with every change of the bytes; peers of another version are refused by name.
PROTOCOL = 3

#: SerialEM cannot write a larger section (KStoreMRC.cpp computes its size in a 32-bit int).
MAX_SECTION_BYTES = 2**31 - 1
MAX_HEADER_BYTES = 2**20
MAX_SIDE_PX = 2**16
MAX_HOLDING = 1024
MAX_WORDS = 64
MAX_TOLD = 1024
MAX_WARNING = 1000
PIXEL_DTYPES = ("|i1", "|u1", "<i2", "<u2", "<f2", "<f4")

Buffer = bytes | memoryview


class Beat(Struct, frozen=True, tag="beat"):
    """A worker's sign of life, to agent and sink: what it holds, what it is computing.

    The first one says hello; ``slots`` is the worker's credit. One is sent at once whenever a
    computation starts, so that a crash can be laid at the right section's door. ``received`` is the
    highest number of a frame that came, ``link`` counts how often the connection was made.
    ``model`` is the name of the worker's model and its weights' SHA-256; while it is ``loading``
    them it cannot compute yet. ``agent`` is the instance of the agent that it heard last: said to
    another one, before that has answered, it does not know of frames that are still on their way.
    """

    slots: int
    holding: tuple[SectionId, ...] = ()
    computing: SectionId | None = None
    detail: str = ""
    received: int = 0
    link: int = 0
    model: str = ""
    loading: bool = False
    agent: str = ""


class Pong(Struct, frozen=True, tag="pong"):
    """Answer to a sign of life. Another ``instance`` than before: the peer was restarted.

    ``heard`` is the number of the last word that is kept, ``retry`` are quarantined sections that
    the operator wants tried again.
    """

    instance: str
    normalization_maximum: float | None = None
    heard: int = 0
    retry: tuple[SectionId, ...] = ()


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
    """The sink's word that a result or a quarantine notice is committed."""

    section: SectionId


class Later(Struct, frozen=True, tag="later"):
    """The sink could not store the result now: the disk is full, say. Send it again."""

    section: SectionId


class Quarantine(Struct, frozen=True, tag="quarantine"):
    """The agent gives a section up."""

    section: SectionId
    reason: str
    attempts: int
    stream: bool = False


class Retried(Struct, frozen=True, tag="retried"):
    """The agent has taken a section out of quarantine, to try it again."""

    section: SectionId


class Report(Struct, frozen=True, tag="report"):
    """The agent's counts, for the dashboard."""

    seen: int
    waiting: int
    in_work: int
    longest_wait_s: float = 0.0


class Words(Struct, frozen=True, tag="words"):
    """What the operator should read, numbered by who says it until the sink has heard it."""

    words: tuple[tuple[int, str], ...] = ()


class _FrameHeader(Struct, frozen=True, tag="frame"):
    section: SectionId
    shape: tuple[int, int]
    dtype: str
    pixel_size_nm: float | None
    metadata: Metadata
    stream: bool
    written_s: float | None
    timings_s: dict[str, float]
    number: int = 0


class _ResultHeader(Struct, frozen=True, tag="result"):
    section: SectionId
    stream: bool
    pixel_size_nm: float | None
    metadata: Metadata
    written_s: float | None
    shape: tuple[int, int]
    labels_dtype: str
    particles: int
    summary: Summary
    model: str
    model_sha256: str
    threshold: float
    normalization_maximum: float | None
    timings_s: dict[str, float]
    pixels_crc32: int
    versions: dict[str, str]
    domain_score: float
    warning: str


class _SnapshotHeader(Struct, frozen=True, tag="snapshot"):
    snapshot: Snapshot


_Plain = Beat | Pong | Done | Failed | Goodbye | Ack | Later | Quarantine | Retried | Report | Words
_Header = _Plain | _FrameHeader | _ResultHeader | _SnapshotHeader
Message = _Plain | Frame | Result | Snapshot


@dataclass(frozen=True)
class _Envelope:
    encoder: msgspec.msgpack.Encoder
    decoder: msgspec.msgpack.Decoder[_Header]


_WIRE = _Envelope(msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(_Header))
_PREFIX = b"nanostream" + bytes([PROTOCOL])


def encode(message: Message) -> list[Buffer]:
    """Parts of a message; pixel buffers are views, not copies."""
    header: _Header
    buffers: list[Buffer] = []
    if isinstance(message, Frame):
        pixels = np.ascontiguousarray(message.pixels)
        _expect(max(pixels.shape) <= MAX_SIDE_PX, f"image of {pixels.shape}")
        header = _FrameHeader(
            section=message.section,
            shape=(pixels.shape[0], pixels.shape[1]),
            dtype=_wire_dtype(pixels.dtype),
            pixel_size_nm=message.pixel_size_nm,
            metadata=message.metadata,
            stream=message.stream,
            written_s=message.written_s,
            timings_s=message.timings_s,
            number=message.number,
        )
        buffers = [pixels.data]
    elif isinstance(message, Result):
        header = _ResultHeader(
            section=message.section,
            stream=message.stream,
            pixel_size_nm=message.pixel_size_nm,
            metadata=message.metadata,
            written_s=message.written_s,
            shape=(message.labels.shape[0], message.labels.shape[1]),
            labels_dtype=message.labels.dtype.str,
            particles=len(message.particles),
            summary=message.summary,
            model=message.model,
            model_sha256=message.model_sha256,
            threshold=message.threshold,
            normalization_maximum=message.normalization_maximum,
            timings_s=message.timings_s,
            pixels_crc32=message.pixels_crc32,
            versions=message.versions,
            domain_score=message.domain_score,
            warning=message.warning,
        )
        buffers = [message.labels.data, message.probability.data, message.particles.tobytes()]
    elif isinstance(message, Snapshot):
        header = _SnapshotHeader(message)
    else:
        header = message
    return [_PREFIX + _WIRE.encoder.encode(header), *buffers]


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
    try:
        header = _WIRE.decoder.decode(memoryview(head)[len(_PREFIX) :])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        msg = f"header does not parse: {error}"
        raise MessageError(msg) from error
    if isinstance(header, _FrameHeader):
        return _frame(header, parts[1:])
    if isinstance(header, _ResultHeader):
        return _result(header, parts[1:])
    _expect(len(parts) == 1, f"{type(header).__name__} carries {len(parts) - 1} stray buffers")
    if isinstance(header, _SnapshotHeader):
        return header.snapshot
    if isinstance(header, Beat):
        _expect(len(header.holding) <= MAX_HOLDING, "worker claims to hold too many sections")
        _expect(0 <= header.slots <= MAX_HOLDING, f"worker asks for {header.slots} slots")
        _expect(0 <= header.received < 2**62, f"frame number {header.received}")
        words = len(header.detail) + len(header.model) + len(header.agent)
        _expect(words <= MAX_TOLD, f"worker tells {words} characters of itself")
    if isinstance(header, Quarantine):
        _expect(0 < header.attempts < 2**31, f"{header.attempts} attempts")
    if isinstance(header, Words):
        _expect(len(header.words) <= MAX_WORDS, "too many words at once")
        _expect(all(0 < number < 2**62 for number, _ in header.words), "a word's number")
    return header


def _frame(header: _FrameHeader, buffers: Sequence[bytes | memoryview]) -> Frame:
    _expect(len(buffers) == 1, f"frame with {len(buffers)} buffers")
    _expect(header.dtype in PIXEL_DTYPES, f"pixel type {header.dtype!r}")
    return Frame(
        section=header.section,
        pixels=_array(buffers[0], header.shape, np.dtype(header.dtype)),
        pixel_size_nm=_positive(header.pixel_size_nm),
        metadata=header.metadata,
        stream=header.stream,
        written_s=header.written_s,
        timings_s=header.timings_s,
        number=header.number,
    )


def _result(header: _ResultHeader, buffers: Sequence[bytes | memoryview]) -> Result:
    _expect(len(buffers) == 3, f"result with {len(buffers)} buffers")
    _expect(header.labels_dtype in ("<u2", "<u4"), f"label type {header.labels_dtype!r}")
    _expect(0 <= header.particles <= 10**7, f"{header.particles} particles")
    _expect(
        memoryview(buffers[2]).nbytes == header.particles * PARTICLE_DTYPE.itemsize,
        "particle table and its length disagree",
    )
    particles = np.frombuffer(buffers[2], PARTICLE_DTYPE)
    _expect(header.summary.count == header.particles, "summary and particle table disagree")
    for name in ("x", "y", "diameter_px"):
        _expect(bool(np.isfinite(particles[name]).all()), f"a particle's {name} is no number")
    _expect(0 <= header.pixels_crc32 < 2**32, f"checksum {header.pixels_crc32}")
    score = header.domain_score
    _expect(math.isnan(score) or 0 <= score <= 1, f"domain score {score}")
    _expect(len(header.warning) <= MAX_WARNING, f"warning of {len(header.warning)} characters")
    return Result(
        section=header.section,
        stream=header.stream,
        pixel_size_nm=_positive(header.pixel_size_nm),
        metadata=header.metadata,
        written_s=header.written_s,
        labels=_array(buffers[0], header.shape, np.dtype(header.labels_dtype)),
        probability=_array(buffers[1], header.shape, np.dtype("|u1")),
        particles=particles,
        summary=header.summary,
        model=header.model,
        model_sha256=header.model_sha256,
        threshold=header.threshold,
        normalization_maximum=header.normalization_maximum,
        timings_s=header.timings_s,
        pixels_crc32=header.pixels_crc32,
        versions=header.versions,
        domain_score=score,
        warning=header.warning,
    )


def _array(
    buffer: bytes | memoryview, shape: tuple[int, int], dtype: np.dtype[Any]
) -> NDArray[Any]:
    height, width = shape
    _expect(0 < height <= MAX_SIDE_PX and 0 < width <= MAX_SIDE_PX, f"image of {shape}")
    expected = height * width * dtype.itemsize
    size = memoryview(buffer).nbytes
    _expect(expected <= MAX_SECTION_BYTES, f"image of {expected} bytes")
    _expect(size == expected, f"buffer of {size} bytes for {shape} {dtype}")
    return np.frombuffer(buffer, dtype).reshape(shape)


def _wire_dtype(dtype: np.dtype[Any]) -> str:
    if dtype.str not in PIXEL_DTYPES:
        msg = f"pixels of type {dtype} do not travel; convert to one of {', '.join(PIXEL_DTYPES)}"
        raise MessageError(msg)
    return dtype.str


def _positive(value: float | None) -> float | None:
    _expect(value is None or (math.isfinite(value) and value > 0), f"pixel size {value}")
    return value


def _expect(condition: bool, what: str) -> None:
    if not condition:
        msg = f"refused message: {what}"
        raise MessageError(msg)
