"""The tables of a configuration: their keys, defaults and checks."""

from __future__ import annotations

import ipaddress
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from nanostream.config.diagnostics import KeyPath, Mistake, WrongValueError, mismatches
from nanostream.config.patterns import matches, may_both_match
from nanostream.records import Severity, TrackerSettings

__all__ = [
    "PATHS",
    "RENAMED",
    "Config",
    "Delivery",
    "Feedback",
    "Network",
    "Sink",
    "Stream",
    "Watch",
    "Worker",
    "contradictions",
    "is_loopback",
    "tracker_of",
]

Port = Annotated[int, Meta(ge=1, le=65535)]
#: No wait of a pipeline is longer than a week; and infinity is no wait.
_WEEK_S = 604_800
Seconds = Annotated[float, Meta(gt=0, le=_WEEK_S)]
Pause = Annotated[float, Meta(ge=0, le=_WEEK_S)]
Count = Annotated[int, Meta(ge=1)]
#: As `frames` takes them: no microscope resolves less, and 72 dpi of a drawing program are 0.35 mm.
PixelSize = Annotated[float, Meta(ge=1e-4, le=1e3)]


class Section(Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file, or the same made in Python.

    Both are checked alike: msgspec checks what it decodes, `__post_init__` what Python calls with.

    Raises
    ------
    ConfigError
        If a value does not fit its key; the message names key and value and what would fit.

    Examples
    --------
    >>> Worker(threshold=5.0)
    Traceback (most recent call last):
    nanostream.config.diagnostics.WrongValueError: [worker] threshold: expected a number above \
0 and below 1, not 5.0
    """

    def __post_init__(self) -> None:
        for key, kind in _keys(type(self)):
            value = _plain(getattr(self, key))
            try:
                fitting = msgspec.convert(value, kind)
            except msgspec.ValidationError:
                mistake = mismatches(value, kind)[0]
                place = (*_place(type(self)), key, *mistake.keys[0])
                raise WrongValueError(place, mistake.text) from None
            msgspec.structs.force_setattr(self, key, fitting)


@cache
def _keys(section: type[Section]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, field.type) for field in msgspec.structs.fields(section))


def _place(section: type[Section]) -> KeyPath:
    """Where the section's keys are in a file."""
    name = section.__name__.lower()
    return {"config": (), "stream": ("streams", 0)}.get(name, (name,))


def _plain(value: object) -> object:
    """A value as a file would have it: a path is its text, NumPy's number a number."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if hasattr(value, "item") else value


class Watch(Section, frozen=True):
    """The folder that the agent watches, and how.

    ``poll_s`` is the time between scans of the folder; where a scan of all of it costs much, as
    with 100,000 files, full scans are rarer and only the newest files are scanned in between. With
    ``file_events`` "on" the operating system's events of local changes are used besides; "auto"
    uses them on a local disk and not on a network share. ``mdoc_wait_s`` is how long a section may
    wait for its metadata before it goes without. What is there when the agent first starts is taken
    first ("all"), taken after what is new ("newest-first"), or left alone ("only-new").
    ``pixel_size_nm`` is for files that do not give it, also in ``nanostream segment``.
    """

    directory: str = ""
    include: tuple[str, ...] = ("*.mrc", "*.st", "*.map", "*.mrcs", "*.tif")
    exclude: tuple[str, ...] = ()
    poll_s: Seconds = 1.0
    mdoc_wait_s: Pause = 0.5
    ledger: str = ""
    recursive: bool = True
    file_events: Literal["auto", "on", "off"] = "auto"
    start: Literal["all", "newest-first", "only-new"] = "all"
    pixel_size_nm: PixelSize | None = None


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
    retry_s: Pause = 2.0
    heartbeat_s: Seconds = 1.0
    silent_s: Seconds = 15.0
    resend_s: Seconds = 10.0
    hung_s: Seconds = 300.0
    order: Literal["in-order", "newest-first"] = "in-order"
    at_stop: Literal["abandon", "drain"] = "abandon"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.silent_s < 3 * self.heartbeat_s:
            text = (
                f"silent_s = {self.silent_s:g} with heartbeat_s = {self.heartbeat_s:g}: a worker "
                "would be lost between two heartbeats; give at least three times as much"
            )
            raise WrongValueError(("delivery", "silent_s"), text)


class Worker(Section, frozen=True):
    """How micrographs are segmented.

    ``threshold`` overrides the model card's; with a lower one its minimum peak probability does not
    count. Components of the mask below ``min_area_px`` are noise; without it the model card says
    how small a particle its network can be trusted with, else 100 px count. With ``separate``
    touching particles get their own labels, and dark holes are filled; ``separation_rise``, instead
    of the card's, is how much a hill rises above the pass to the next to be a particle of its own.
    With ``hand_over`` a model leaves the micrographs that it is not for to the one that its card
    names, as ``default`` does to ``survey``. ``tile_px`` bounds the memory of one step of the
    network, ``batch`` says how many tiles go to the device at once. ``engine`` "auto" takes ONNX
    Runtime where it is installed and TensorFlow where only that can use the GPU. ``precision``
    "mixed" computes in bfloat16 on a CPU and float16 on a GPU, and needs TensorFlow.
    """

    model: str = "default"
    threshold: Annotated[float, Meta(gt=0, lt=1)] | None = None
    min_area_px: Annotated[int, Meta(ge=0)] | None = None
    separate: bool = True
    separation_rise: Annotated[float, Meta(gt=0, lt=10)] | None = None
    hand_over: bool = True
    tile_px: Annotated[int, Meta(ge=256, le=8192)] = 2048
    batch: Count = 1
    device: Annotated[
        str,
        Meta(pattern="^(?i:auto|cpu|gpu(:[0-9]+)?)$", examples=["auto", "cpu", "gpu", "gpu:1"]),
    ] = "auto"
    engine: Literal["auto", "onnx", "tensorflow"] = "auto"
    precision: Literal["float32", "mixed"] = "float32"

    @property
    def mixed(self) -> bool:
        """Whether the network computes in mixed precision."""
        return self.precision == "mixed"


class Sink(Section, frozen=True):
    """Where results are kept."""

    session: str = ""


class Feedback(Section, frozen=True):
    """Results that SerialEM can use in the same session.

    ``directory`` gets a small text file for each section; empty is ``feedback`` in the session
    folder. ``navigator`` is a Navigator file whose maps give places to particles; what
    ``navigator_items`` names is written to ``.nav`` files for SerialEM to merge, at most
    ``most_items`` a file, ranked by ``rank_by``; particles have no count and no area fraction, and
    go by probability then.
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
    max_step_px: Annotated[float, Meta(ge=0, le=65_536)] = 0.0
    memory_frames: Annotated[int, Meta(ge=0, le=1_000_000)] = 3

    @property
    def tracker(self) -> TrackerSettings:
        """Settings that travel with each section of such a stack."""
        return TrackerSettings(
            max_step_px=self.max_step_px or None, memory_frames=self.memory_frames
        )


class Limit(Section, frozen=True):
    """A limit of your own: an alarm while the last ``sections`` are all above or below it."""

    quantity: Literal[
        "count",
        "area_fraction",
        "mean_diameter_nm",
        "median_diameter_nm",
        "mean_diameter_px",
        "median_diameter_px",
        "mean_intensity",
    ]
    above: float | None = None
    below: float | None = None
    sections: Annotated[int, Meta(ge=1, le=1000)] = 3
    severity: Severity = Severity.WARNING

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.above is None and self.below is None:
            raise WrongValueError(("alarms", "above"), "give above or below, or both")


class Notify(Section, frozen=True):
    """A command of your own for alarms, say one that sends mail.

    It is started with each alarm that is raised or cleared, of at least this ``severity``, at most
    once in ``every_s`` for an alarm of one name, and has it as JSON on its standard input and in
    words as its last argument.
    """

    command: tuple[str, ...] = ()
    severity: Severity = Severity.WARNING
    every_s: Seconds = 300.0


class Config(Section, frozen=True):
    """The whole file."""

    watch: Watch = Watch()
    network: Network = Network()
    delivery: Delivery = Delivery()
    worker: Worker = Worker()
    sink: Sink = Sink()
    feedback: Feedback = Feedback()
    streams: tuple[Stream, ...] = ()
    alarms: tuple[Limit, ...] = ()
    notify: Notify = Notify()


#: Keys of older versions, which files and sessions may still have, and their names of today.
RENAMED = {("watch", "notices"): "file_events"}

#: Keys that name a file or folder.
PATHS = (
    ("watch", "directory"),
    ("watch", "ledger"),
    ("sink", "session"),
    ("network", "keys"),
    ("feedback", "directory"),
    ("feedback", "navigator"),
)


def contradictions(config: Config) -> Iterator[Mistake]:
    """Mistakes of keys that are right one by one, and wrong or odd together."""
    yield from _of_network(config.network)
    yield from _of_folders(config)
    yield from _of_streams(config)
    if not config.watch.include:
        yield Mistake((("watch", "include"),), 'takes no file at all; give patterns like "*.mrc"')
    delivery = config.delivery
    if delivery.resend_s >= delivery.silent_s:
        text = (
            f"resend_s = {delivery.resend_s:g} is not below silent_s = {delivery.silent_s:g}: what "
            "was lost on the way is missed for longer than a worker that is gone"
        )
        yield Mistake((("delivery", "resend_s"), ("delivery", "silent_s")), text, wrong=False)


def _of_network(network: Network) -> Iterator[Mistake]:
    ports = ("frames", "results", "snapshots", "queries")
    hosts = {port: getattr(network, f"{port}_host") or network.host for port in ports}
    for host in dict.fromkeys(hosts.values()):
        if not network.keys and not is_loopback(host):
            names = ("host", *(f"{port}_host" for port in ports))
            keys = tuple(("network", name) for name in names if getattr(network, name) == host)
            text = (
                f"{host} is reachable from other machines, which needs keys; nanostream keys "
                "create makes them, [network] keys names their folder"
            )
            yield Mistake(keys, text)
    for name in ("frames_server", "results_server"):
        if getattr(network, name) and not network.keys:
            text = "names a trusted machine, but [network] keys names no folder of keys"
            yield Mistake((("network", name),), text)
    for one, other in itertools.combinations(ports, 2):
        number = getattr(network, f"{one}_port")
        here = {host.replace("localhost", "127.0.0.1") for host in (hosts[one], hosts[other])}
        if len(here) == 1 and number == getattr(network, f"{other}_port"):
            text = f"{one}_port and {other}_port are both {number} on {here.pop()}; give two"
            yield Mistake((("network", f"{one}_port"), ("network", f"{other}_port")), text)


def _of_folders(config: Config) -> Iterator[Mistake]:
    tree = msgspec.to_builtins(config)
    for key in PATHS:
        if re.search(r"[\x00-\x1f]", value := tree[key[0]][key[1]]):
            text = f"{value!r}: a backslash was read as an escape; write / for it"
            yield Mistake((key,), text)
            return
    folders = {key: Path(tree[key[0]][key[1]]).resolve() for key in PATHS if tree[key[0]][key[1]]}
    watched = folders.pop(PATHS[0], None)
    if watched is None:
        return
    for key, path in folders.items():
        inside = path.is_relative_to(watched)
        if key == ("feedback", "directory") and inside:
            text = f"{path} is in the watched folder: nanostream will write there"
            yield Mistake((key,), text, wrong=False)
        elif key in (("watch", "ledger"), ("sink", "session")) and inside:
            text = f"{path} is in the watched folder {watched}, and nothing is written there"
            yield Mistake((key, PATHS[0]), text)
        elif key == ("sink", "session") and watched.is_relative_to(path):
            text = f"the watched folder {watched} is in the session folder {path}; separate them"
            yield Mistake((key, PATHS[0]), text)


def _of_streams(config: Config) -> Iterator[Mistake]:
    include = config.watch.include
    for index, stream in enumerate(config.streams):
        if not any(may_both_match(stream.pattern, pattern) for pattern in include):
            text = (
                f"{stream.pattern!r} can match no file that [watch] include takes: "
                f"{', '.join(include)}"
            )
            yield Mistake((("streams", index, "pattern"), ("watch", "include")), text)
    if config.streams and config.delivery.order == "newest-first":
        text = '"newest-first" lets tracks wait until the backlog is done; "in-order" keeps up'
        yield Mistake((("delivery", "order"),), text, wrong=False)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    Examples
    --------
    >>> is_loopback("localhost"), is_loopback("::1"), is_loopback("10.0.0.4")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def tracker_of(path: str, streams: Iterable[Stream]) -> TrackerSettings | None:
    """How a movie's particles are linked, by the first pattern that fits; None for other files."""
    return next((stream.tracker for stream in streams if matches(path, [stream.pattern])), None)
