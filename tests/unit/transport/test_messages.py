"""Bytes and records are two forms of one thing; anything else is refused."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from nanostream.errors import MessageError
from nanostream.records import (
    PARTICLE_DTYPE,
    Alarm,
    Frame,
    Health,
    Metadata,
    Result,
    SectionId,
    Severity,
    Snapshot,
    State,
    Summary,
    TrackerSettings,
)
from nanostream.transport import messages as m

SECTION = SectionId("gold/a.mrc", 3)
MOVIE = TrackerSettings(max_step_px=4.0, memory_frames=2)


SIZES = [f"{one}_{unit}" for one in ("diameter", "feret_min", "feret_max") for unit in ("px", "nm")]


def parts(message):
    """The message as it arrives at the other end: bytes."""
    return [bytes(part) for part in m.encode(message)]


def a_frame(pixels=None):
    return Frame(
        SECTION,
        np.arange(12, dtype=np.int16).reshape(3, 4) if pixels is None else pixels,
        pixel_size_nm=0.02,
        metadata=Metadata(defocus_um=-0.1),
        stream=MOVIE,
    )


def a_result(particles=2):
    table = np.zeros(particles, PARTICLE_DTYPE)
    table["x"] = 1.5
    for name in SIZES:
        table[name] = math.nan if name.endswith("_nm") else 2.0
    table["shape_class"] = "round"
    return Result(
        section=SECTION,
        pixel_size_nm=None,
        metadata=Metadata(),
        written_s=1.0,
        labels=np.eye(4, dtype=np.uint16),
        probability=np.full((4, 4), 7, np.uint8),
        particles=table,
        summary=Summary(particles, 0, 0.25, 1.0, 1.0, float("nan"), float("nan")),
        model="default",
        model_sha256="0",
        threshold=0.5,
        normalization_maximum=None,
        timings_s={"predict_s": 0.1},
        pixels_crc32=1,
        domain_score=0.002,
        warning="unlike the training data",
    )


@pytest.mark.parametrize(
    "message",
    [
        m.Beat(3, (SECTION,), SECTION, "model default"),
        m.Pong("abc", 12.5),
        m.Done(SECTION),
        m.Failed(SECTION, "why"),
        m.Goodbye((SECTION,)),
        m.Ack(SECTION),
        m.Later(SECTION),
        m.Quarantine(SECTION, "why", 3),
        m.Ready("worker", 1.5),
        m.Retried(SECTION),
        m.Report(1, 2, 3),
        m.Report(1, 2, 3, trouble="D: cannot be reached", time_s=1.8e9),
        m.Crashed("worker", 4711, "exit code -9"),
        m.Events(((1, "a"), (2, "b"))),
        Snapshot("s", 1.0, mask=b"\0\1", mask_shape=(1, 2)),
        Snapshot("s", 1.0, alarms=(Alarm("a", Severity.WARNING, "b", "c", 1.0),)),
        Snapshot("s", 1.0, health=(Health("w", "worker", State.LOADING, 0.1),)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_plain_messages_arrive_as_they_left(message):
    arrived = m.decode(parts(message))
    assert msgspec.msgpack.encode(arrived) == msgspec.msgpack.encode(message)
    assert type(arrived) is type(message)


@given(
    st.sampled_from(["|i1", "|u1", "<i2", "<u2", "<f2", "<f4"]).flatmap(
        lambda dtype: npst.arrays(dtype, npst.array_shapes(min_dims=2, max_dims=2, max_side=9))
    )
)
def test_a_frame_arrives_pixel_for_pixel(pixels):
    frame = m.decode(parts(a_frame(pixels)))
    assert frame.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert (frame.section, frame.pixel_size_nm, frame.stream) == (SECTION, 0.02, MOVIE)


def test_a_frame_travels_without_a_copy_of_its_pixels():
    frame = a_frame()
    assert np.shares_memory(np.frombuffer(m.encode(frame)[1], np.int16), frame.pixels)
    arrived = parts(frame)
    assert np.shares_memory(m.decode(arrived).pixels, np.frombuffer(arrived[1], np.int16))


@pytest.mark.parametrize("particles", [0, 2])
def test_a_result_arrives_as_it_left(particles):
    result = m.decode(parts(a_result(particles)))
    np.testing.assert_array_equal(result.labels, np.eye(4))
    wanted = a_result(particles).particles  # sizes that are not known are NaN: compared as bytes
    assert (result.particles.dtype, result.particles.tobytes()) == (wanted.dtype, wanted.tobytes())
    assert result.timings_s == {"predict_s": 0.1}
    assert (result.domain_score, result.warning) == (0.002, "unlike the training data")


def test_a_domain_score_that_is_not_known_arrives_as_such():
    unknown = m.decode(
        parts(msgspec.structs.replace(a_result(), domain_score=math.nan, warning=""))
    )
    assert math.isnan(unknown.domain_score)
    assert unknown.warning == ""


def altered(message, **fields):
    """The message's parts with some header fields changed behind the encoder's back."""
    first, *rest = parts(message)
    prefix = first[: len(b"nanostream") + 1]
    header = msgspec.msgpack.decode(first[len(prefix) :]) | fields
    return [prefix + msgspec.msgpack.encode(header), *rest]


HOSTILE = {
    "nothing": [],
    "no message": [b"GET / HTTP/1.1"],
    "another protocol": [b"nanostream\x63" + parts(m.Done(SECTION))[0][11:]],
    "cut off": [parts(m.Done(SECTION))[0][:-2]],
    "deep nesting": [b"nanostream\x01" + b"\x91" * 100_000],
    "header of a megabyte": [b"nanostream\x01" + b"\0" * 2**20],
    "frame without pixels": parts(a_frame())[:1],
    "frame with two buffers": [*parts(a_frame()), b""],
    "more pixels than bytes": altered(a_frame(), pixels=[0, "<i2", [4000, 4000]]),
    "negative side": altered(a_frame(), pixels=[0, "<i2", [-3, -4]]),
    "huge side": altered(a_frame(), pixels=[0, "<i2", [2**40, 2**40]]),
    "a row of pixels": altered(a_frame(), pixels=[0, "<i2", [12]]),
    "object pixels": altered(a_frame(), pixels=[0, "|O", [3, 4]]),
    "pixels from no buffer": altered(a_frame(), pixels=[1, "<i2", [3, 4]]),
    "pixels from a buffer before the first": altered(a_frame(), pixels=[-1, "<i2", [3, 4]]),
    "pixels in the header": altered(a_frame(), pixels=b"0" * 24),
    "path above the folder": altered(
        a_frame(), section={"path": "../../etc/x", "z": 0, "generation": 1}
    ),
    "negative pixel size": altered(a_frame(), pixel_size_nm=-1.0),
    "endless pixel size": altered(a_frame(), pixel_size_nm=math.inf),
    "a step of no length": altered(a_frame(), stream={"max_step_px": 0.0}),
    "pixel size that is no number": altered(a_frame(), pixel_size_nm=float("nan")),
    "labels of another type": altered(a_result(), labels=[0, "<f4", [4, 4]]),
    "labels of another shape": altered(a_result(), labels=[0, "<u2", [2, 8]]),
    "labels and probability in one buffer": altered(a_result(), labels=[1, "<u2", [2, 4]]),
    "more particles than rows": altered(a_result(), particles=[2, "|V0", [10**6]]),
    "a table of particles in two dimensions": altered(a_result(), particles=[2, "|V0", [1, 2]]),
    "a count that is not the table's": altered(
        a_result(), summary=msgspec.to_builtins(a_result().summary) | {"count": 2**63}
    ),
    "a particle that is nowhere": [
        *parts(a_result())[:3],
        np.full(2, np.nan, "<f8").tobytes().ljust(2 * PARTICLE_DTYPE.itemsize, b"\xff"),
    ],
    "a shape that there is not": [
        *parts(a_result())[:3],
        bytes(parts(a_result())[3]).replace("round".encode("utf-32-le"), b"\xff" * 20),
    ],
    "a checksum beyond 32 bits": altered(a_result(), pixels_crc32=2**40),
    "a domain score that is none": altered(a_result(), domain_score=1.5),
    "a warning that fills the screen": altered(a_result(), warning="!" * 100_000),
    "a flood of events": parts(m.Events(tuple((n, "?") for n in range(1, 1000)))),
    "ready in a role that there is not": altered(m.Ready("sink", 1.0), role="king"),
    "ready at no time": altered(m.Ready("sink", 1.0), since_s=math.nan),
    "billions of particles": altered(a_result(), particles=[2, "|V0", [10**12]]),
    "a word with a buffer": [*parts(m.Done(SECTION)), b"stray"],
    "greedy worker": parts(m.Beat(10**6)),
    "talkative worker": parts(m.Beat(3, model="x" * 2000)),
    "unknown kind": altered(m.Done(SECTION), type="shutdown"),
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_message_is_refused(message):
    with pytest.raises(MessageError):
        m.decode(message)


@pytest.mark.parametrize("size", [0.0, -5.0, math.inf])
@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_can_be_none_is_refused_by_name(name, size):
    result = a_result()
    result.particles[name][1] = size
    with pytest.raises(MessageError, match=rf"{name} is not a length above 0: \[ ?{size:g}"):
        m.decode(parts(result))


@given(st.lists(st.binary(max_size=64), max_size=4), st.booleans())
def test_no_bytes_at_all_do_more_than_raise(data, prefixed):
    if prefixed and data:
        data[0] = b"nanostream\x01" + data[0]
    with pytest.raises(MessageError):
        m.decode(data)


def test_pixels_of_a_type_that_does_not_travel_are_refused_at_the_sender():
    with pytest.raises(MessageError, match="float64"):
        m.encode(a_frame(np.zeros((2, 2))))


def test_an_image_that_no_worker_would_take_is_not_sent():
    with pytest.raises(MessageError, match="image of"):
        m.encode(Frame(SECTION, np.zeros((1, m.MAX_SIDE_PX + 1), np.uint8)))
