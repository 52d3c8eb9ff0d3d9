"""Configuration: TOML in, frozen and checked sections out.

A session needs none: every key has a default that suits one machine. ``configs/microscope.toml``
shows every key with its meaning.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from nanostream.errors import ConfigError

__all__ = [
    "Config",
    "Delivery",
    "Feedback",
    "Network",
    "Sink",
    "Stream",
    "Watch",
    "Worker",
    "load_config",
    "matches",
    "override",
]

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file; a key that is not known is an error, not a silence."""


class Watch(Section, frozen=True):
    """What the agent watches.

    ``poll_s`` is the time between full looks at the folder; with ``notices`` "on" the operating
    system's notices of local changes are heard besides, "auto" means on a local disk and not on a
    network share. ``mdoc_wait_s`` is how long a section may wait for its metadata before it goes
    without. What is there when the agent first starts is taken first ("all"), taken after what is
    new ("newest-first"), or left alone ("only-new"). ``pixel_size_nm`` is for files that say none.
    """

    directory: str = ""
    include: tuple[str, ...] = ("*.mrc", "*.st", "*.map", "*.mrcs")
    exclude: tuple[str, ...] = ()
    poll_s: Seconds = 1.0
    mdoc_wait_s: Annotated[float, Meta(ge=0)] = 0.5
    ledger: str = ""
    recursive: bool = True
    notices: Literal["auto", "on", "off"] = "auto"
    start: Literal["all", "newest-first", "only-new"] = "all"
    pixel_size_nm: Annotated[float, Meta(gt=0)] | None = None


class Network(Section, frozen=True):
    """Where the processes meet.

    ``host`` is where all of them are; ``frames_host`` (the agent's machine), ``results_host``,
    ``snapshots_host`` and ``queries_host`` (the sink's) override it. Beyond this machine every
    process needs ``keys``, a folder from ``nanostream keys create``; ``frames_server`` and
    ``results_server`` name the trusted machines that agent and sink run on, empty for this one.
    """

    host: str = "127.0.0.1"
    frames_port: Port = 5770
    results_port: Port = 5771
    snapshots_port: Port = 5772
    queries_port: Port = 5773
    frames_host: str = ""
    results_host: str = ""
    snapshots_host: str = ""
    queries_host: str = ""
    keys: str = ""
    frames_server: str = ""
    results_server: str = ""


class Delivery(Section, frozen=True):
    """How hard the pipeline tries.

    ``slots`` sections are with a worker at a time (one in work, one ready, one waiting for its
    commit). A worker silent for ``silent_s`` has lost its sections to the others; a section that
    failed ``attempts`` times, ``retry_s`` apart and then twice that, is quarantined; what was sent
    and not acknowledged within ``resend_s`` is sent again. A worker that computes one section for
    longer than ``hung_s`` ends itself, to be started anew. With ``order`` "newest-first" a backlog
    is filled in later, so that the live view stays live; tracks need "in-order" to be live. Told to
    stop, a session leaves what is not in work to its next start ("abandon"), or takes nothing new
    and finishes all that was acquired ("drain").
    """

    slots: Annotated[int, Meta(ge=1, le=64)] = 3
    attempts: Count = 3
    retry_s: Annotated[float, Meta(ge=0)] = 2.0
    heartbeat_s: Seconds = 1.0
    silent_s: Seconds = 15.0
    resend_s: Seconds = 10.0
    hung_s: Seconds = 300.0
    order: Literal["in-order", "newest-first"] = "in-order"
    at_stop: Literal["abandon", "drain"] = "abandon"

    def __post_init__(self) -> None:
        if self.silent_s < 3 * self.heartbeat_s:
            msg = (
                f"silent_s = {self.silent_s:g} with heartbeat_s = {self.heartbeat_s:g}: a worker "
                "would be lost between two heartbeats; give at least three times as much"
            )
            raise ValueError(msg)


class Worker(Section, frozen=True):
    """How micrographs are segmented.

    ``threshold`` overrides the model card's. Components of the mask below ``min_area_px`` are
    noise: of a particle of fewer than about 100 px neither size nor shape can be trusted.
    ``tile_px`` bounds the memory of one step of the network, ``batch`` says how many tiles go to
    the device at once. ``precision`` "mixed" computes in bfloat16 on a CPU and float16 on a GPU.
    """

    model: str = "default"
    threshold: Annotated[float, Meta(gt=0, lt=1)] | None = None
    min_area_px: Annotated[int, Meta(ge=0)] = 100
    tile_px: Annotated[int, Meta(ge=256, le=8192)] = 1024
    batch: Count = 1
    device: str = "auto"
    precision: Literal["float32", "mixed"] = "float32"


class Sink(Section, frozen=True):
    """Where results are kept."""

    session: str = ""


class Feedback(Section, frozen=True):
    """What SerialEM can use in the same session.

    ``directory`` gets a small text file for each section; empty is ``feedback`` in the session
    folder. ``navigator`` is a Navigator file whose maps give places to particles; what
    ``navigator_items`` names is written to ``.nav`` files for SerialEM to merge, at most
    ``most_items`` a section, ranked by ``rank_by``.
    """

    result_files: bool = True
    directory: str = ""
    navigator: str = ""
    navigator_items: Literal["off", "particles", "sections"] = "off"
    rank_by: Literal["count", "area_fraction", "diameter", "probability"] = "count"
    most_items: Count = 200


class Stream(Section, frozen=True):
    """Stacks that are movies: their particles get identities that last.

    ``pattern`` is matched against the file's name and its path below the watched folder.
    ``max_step_px`` bounds a particle's own motion between two sections (0: found from the data); a
    particle that is missing for up to ``memory_frames`` sections keeps its identity.
    """

    pattern: str
    max_step_px: Annotated[float, Meta(ge=0)] = 0.0
    memory_frames: Annotated[int, Meta(ge=0)] = 3


class Config(Section, frozen=True):
    """The whole file."""

    watch: Watch = Watch()
    network: Network = Network()
    delivery: Delivery = Delivery()
    worker: Worker = Worker()
    sink: Sink = Sink()
    feedback: Feedback = Feedback()
    streams: tuple[Stream, ...] = ()


def load_config(path: Path) -> Config:
    """Read a TOML (or JSON) file.

    Parameters
    ----------
    path : Path
        Relative folders in it are taken from the file's own folder.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key is unknown, of the wrong type or out of range.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"configuration {path} cannot be read: {error.strerror}; give a file that exists"
        raise ConfigError(msg) from error
    decode = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    try:
        config = decode(data, type=Config, strict=True)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: {_in_words(str(error))}; configs/microscope.toml shows every key"
        raise ConfigError(msg) from error
    base = path.resolve().parent
    return override(
        config,
        watch={
            "directory": str(base / config.watch.directory) if config.watch.directory else "",
            "ledger": str(base / config.watch.ledger) if config.watch.ledger else "",
        },
        sink={"session": str(base / config.sink.session) if config.sink.session else ""},
        network={"keys": str(base / config.network.keys) if config.network.keys else ""},
        feedback={
            "directory": str(base / config.feedback.directory) if config.feedback.directory else "",
            "navigator": str(base / config.feedback.navigator) if config.feedback.navigator else "",
        },
    )


def override(config: Config, **sections: dict[str, Any]) -> Config:
    """A configuration with some keys replaced, checked like a file's.

    Examples
    --------
    >>> override(Config(), worker={"threshold": 0.7}).worker.threshold
    0.7
    """
    tree = msgspec.to_builtins(config)
    for name, keys in sections.items():
        tree[name] |= {key: value for key, value in keys.items() if value is not None}
    try:
        return msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(_in_words(str(error))) from error


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a file's name, or its path below the watched folder, fits one of the patterns.

    Examples
    --------
    >>> matches("day1/movie.mrc", ["movie*.mrc"]), matches("day1/movie.mrc", ["day2/*"])
    (True, False)
    """
    name = path.rpartition("/")[2]
    return any(fnmatch.fnmatch(name, p) or fnmatch.fnmatch(path, p) for p in patterns)


def _in_words(text: str) -> str:
    """``Expected `int` >= 1 - at `$.delivery.slots``` -> ``[delivery] slots: expected ...``."""
    text, _, where = text.partition(" - at ")
    path = [part for part in re.split(r"[.`$]", where) if part]
    if not path:
        return text
    section = re.sub(r"\[\d+\]", "", path[0])
    return f"[{section}] {'.'.join(path[1:])}: {text}".replace("] :", "]:")
