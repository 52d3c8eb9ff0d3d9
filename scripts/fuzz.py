"""Coverage-guided fuzzing of what reads bytes from outside: messages, MRC headers and mdoc.

::

    pip install atheris        # Linux, CPython 3.11 to 3.13
    python scripts/fuzz.py messages --seconds 300
    python scripts/fuzz.py mrc --seconds 300
    python scripts/fuzz.py mdoc --seconds 300

Whatever the bytes are, the reader gives its answer or its own error; any other exception is a
finding, printed with the input that led to it. Ends with the number of executions.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nanostream"]):
    from nanostream.acquisition.autodoc import metadata_of, parse_mdoc
    from nanostream.acquisition.mrc import parse_header, read_section
    from nanostream.errors import MessageError, MicrographError
    from nanostream.transport import messages

import numpy as np

from nanostream.acquisition.simulator import StackWriter
from nanostream.particles.measures import measure_particles, summarize
from nanostream.records import Frame, Result, SectionId, Segmentation


def joined(parts: Sequence[bytes]) -> bytes:
    """Parts of a message as one input: their number, their lengths, and they themselves."""
    lengths = b"".join(len(part).to_bytes(2, "little") for part in parts)
    return bytes([len(parts)]) + lengths + b"".join(parts)


def parted(data: bytes) -> list[bytes]:
    """Parts that `joined` joined; of other bytes, parts all the same."""
    count = data[0] % 6 if data else 0
    ends = np.cumsum(
        [0, *(int.from_bytes(data[1 + 2 * k : 3 + 2 * k], "little") for k in range(count))]
    )
    rest = data[1 + 2 * count :]
    return [rest[start:end] for start, end in itertools.pairwise(ends.tolist())]


def fuzz_messages(data: bytes) -> None:
    """Parts of a message, their number and lengths taken from the input too."""
    try:
        messages.decode(parted(data))
    except MessageError:
        return


def fuzz_mrc(data: bytes) -> None:
    """A header, and a file that begins with it."""
    try:
        header = parse_header(data, name="fuzz.mrc")
        header.complete_sections(len(data))
    except MicrographError:
        return
    path = Path(tempfile.gettempdir()) / "nanostream-fuzz.mrc"
    path.write_bytes(data)
    try:
        read_section(path, 0)
    except MicrographError:
        return


def fuzz_mdoc(data: bytes) -> None:
    """A metadata file and each of its sections."""
    mdoc = parse_mdoc(data)
    for z in list(mdoc.sections)[:8]:
        if mdoc.section(z) is not None:  # an idoc's go by name
            metadata_of(mdoc, z)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "messages": fuzz_messages,
    "mrc": fuzz_mrc,
    "mdoc": fuzz_mdoc,
}


def seeds(folder: Path) -> None:
    """Valid inputs to begin with."""
    with StackWriter(folder / "seed.mrc", pixel_size_nm=0.02) as stack:
        stack.append(np.zeros((4, 4), np.int16))
    pixels = np.zeros((4, 4), np.int16)
    frame = Frame(SectionId("a.mrc", 0), pixels, pixel_size_nm=0.02)
    labels, probability = pixels.astype(np.int32), pixels.astype(np.float32)
    particles = measure_particles(labels, pixels, probability, pixel_size_nm=0.02)
    segmentation = Segmentation(
        section=frame.section,
        labels=labels,
        probability=probability,
        particles=particles,
        summary=summarize(particles, shape=pixels.shape),
        model="default",
        model_sha256="0" * 64,
        threshold=0.5,
        pixel_size_nm=0.02,
        normalization_maximum=None,
        timings_s={},
    )
    result = Result.of(frame, segmentation, versions={})
    some: list[messages.Message] = [
        messages.Beat(3, (frame.section,)),
        messages.Events(((1, "a"),)),
        frame,
        result,
    ]
    for number, message in enumerate(some):
        parts = [bytes(part) for part in messages.encode(message)]
        messages.decode(parted(joined(parts)))
        (folder / f"seed-{number}").write_bytes(joined(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        arguments = [
            f"-artifact_prefix={tempfile.gettempdir()}/",
            f"-max_total_time={options.seconds}",
            "-max_len=8192",
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *arguments, corpus], TARGETS[options.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
