"""A stand-in for SerialEM: writes its files byte for byte in its order, and what goes wrong.

The order is what the watch agent relies on, so every step is a write of its own::

    images ─▶ sessions ─▶ writers ─▶ faults ─▶ changes ─▶ folder

`images` are files or a simulated movie, `sessions` say which files of which kind are written,
`writers` plan each `Change` of the folder in the order of SerialEM's source, `faults` disturb it,
and only `changes` does it.
"""

from nanostream.acquisition.simulator.faults import Fault
from nanostream.acquisition.simulator.images import (
    DemoMicrograph,
    demo_fields,
    demo_movie,
    load_images,
)
from nanostream.acquisition.simulator.sessions import FRAMES, Kind, Step, play, script
from nanostream.acquisition.simulator.writers import StackWriter

__all__ = [
    "FRAMES",
    "DemoMicrograph",
    "Fault",
    "Kind",
    "StackWriter",
    "Step",
    "demo_fields",
    "demo_movie",
    "load_images",
    "play",
    "script",
]
