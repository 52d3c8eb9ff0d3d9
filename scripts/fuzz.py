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
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nanostream"]):
    from nanostream.acquisition.mdoc import metadata_of, parse_mdoc
    from nanostream.acquisition.mrc import parse_header, read_section
    from nanostream.errors import MessageError, MicrographError
    from nanostream.transport import messages

import numpy as np

from nanostream.acquisition.simulator import StackWriter
from nanostream.records import Frame, Metadata, SectionId


def fuzz_messages(data: bytes) -> None:
    """Parts of a message, their number and lengths taken from the input too."""
    provider = atheris.FuzzedDataProvider(data)
    parts = [
        provider.ConsumeBytes(provider.ConsumeIntInRange(0, 4096))
        for _ in range(provider.ConsumeIntInRange(0, 4))
    ]
    if parts and provider.ConsumeBool():
        parts[0] = b"nanostream" + bytes([messages.PROTOCOL]) + parts[0]
    try:
        messages.decode(parts)
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
    frame = Frame(SectionId("a.mrc", 0), np.zeros((4, 4), np.int16), 0.02, Metadata())
    words = [messages.Beat(3, (frame.section,)), messages.Words(((1, "a"),)), frame]
    for number, message in enumerate(words):
        parts = [bytes(part) for part in messages.encode(message)]
        (folder / f"seed-{number}").write_bytes(b"".join(parts))


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
