"""Records that travel: section ids, frames, segmentations and the dashboard's snapshot.

A section is described once. `Acquired` is what is known of it when it is read, `Measured` adds what
the network found; `Frame`, `Segmentation` and `Result` are these with their arrays. A message is
the record itself (`nanostream.transport.messages`); the columns of SQL and the attributes of HDF5
are read off its fields (`nanostream.results.columns`). So a new number is a new field here and the
line that computes it. A field that is added later has a default: sessions from before are without.

Arrays are (y, x). Positions are 0-based pixel centres in file order (SerialEM shows row 0 of an MRC
at the bottom of its display, of a TIFF at the top: `Metadata.first_row`). Lengths in nm carry
``_nm``, times ``_s``.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PARTICLE_DTYPE",
    "RELATIVE_WIDTH",
    "SHAPE_CLASSES",
    "UNCLASSIFIED",
    "Acquired",
    "Alarm",
    "FirstRow",
    "Frame",
    "Health",
    "Labels",
    "Measure",
    "Measured",
    "Metadata",
    "Particles",
    "Pixels",
    "Probability",
    "Result",
    "Role",
    "SectionId",
    "Segmentation",
    "Severity",
    "Snapshot",
    "State",
    "Statistics",
    "Summary",
    "TrackerSettings",
    "shared",
]

#: Where a display shows row 0 of an image.
FirstRow = Literal["bottom", "top"]

#: Letters of a path below the watched folder.
_LONGEST_PATH = 1024

#: Parts of the pipeline that a process can play.
Role = Literal["agent", "worker", "sink"]

#: Arrays of the records that travel; by these types a receiver knows what to expect.
Pixels = NDArray[Any]
Labels = NDArray[np.uint16 | np.uint32]
Probability = NDArray[np.uint8]
Particles = NDArray[np.void]

PixelSize = Annotated[float, Meta(gt=0, lt=1e9)]

#: Shapes that a particle can have, by the rules of `nanostream.particles.shape_classes`.
SHAPE_CLASSES = ("round", "elongated", "faceted", "irregular", "aggregate")

#: Instead of a shape: the particle is cut by the edge, small, or of a session from before classes.
UNCLASSIFIED = "unclassified"

#: Lengths of a particle that are above 0 whatever its shape, in columns ``_px`` and ``_nm``.
Measure = Literal["diameter", "feret_min", "feret_max"]

#: Widest interval of a median, over the median, that is enough unless another is asked for.
RELATIVE_WIDTH = 0.05

#: One row per particle. ``frame, particle, x, y`` come first: trackpy, napari and pandas users
#: find what they expect. ``particle`` is the label in the section's mask until a stream's tracker
#: gives it an identity that lasts. A length in nm is NaN where the pixel size is not known. Columns
#: are described in `nanostream.particles.measures.measure_particles`.
PARTICLE_DTYPE = np.dtype(
    [
        ("frame", np.int64),
        ("particle", np.int64),
        ("x", np.float64),
        ("y", np.float64),
        ("x_nm", np.float64),
        ("y_nm", np.float64),
        ("label", np.int64),
        ("area_px", np.int64),
        ("area_nm2", np.float64),
        ("diameter_px", np.float64),
        ("diameter_nm", np.float64),
        ("perimeter_px", np.float64),
        ("perimeter_nm", np.float64),
        ("circularity", np.float64),
        ("feret_max_px", np.float64),
        ("feret_max_nm", np.float64),
        ("feret_min_px", np.float64),
        ("feret_min_nm", np.float64),
        ("major_px", np.float64),
        ("major_nm", np.float64),
        ("minor_px", np.float64),
        ("minor_nm", np.float64),
        ("orientation_deg", np.float64),
        ("aspect_ratio", np.float64),
        ("roundness", np.float64),
        ("solidity", np.float64),
        ("convexity", np.float64),
        ("left_px", np.int64),
        ("top_px", np.int64),
        ("right_px", np.int64),
        ("bottom_px", np.int64),
        ("left_nm", np.float64),
        ("top_nm", np.float64),
        ("right_nm", np.float64),
        ("bottom_nm", np.float64),
        ("mean_probability", np.float64),
        ("min_probability", np.float64),
        ("mean_intensity", np.float64),
        ("sd_intensity", np.float64),
        ("contrast", np.float64),
        ("touches_edge", np.bool_),
        ("split", np.bool_),
        ("small", np.bool_),
        ("uncertain", np.bool_),
        ("doubtful", np.bool_),
        ("shape_class", f"U{max(map(len, (*SHAPE_CLASSES, UNCLASSIFIED)))}"),
    ]
)

#: Between the slashes of a path that is empty, absolute, not in its shortest form, or leads out.
_NO_NAMES = frozenset({"", ".", ".."})
_SURROGATE = re.compile(r"[\ud800-\udfff]").search
_CONTROL = re.compile(r"[\x00-\x1f\x7f]").search
_SECTION = re.compile(r"(?P<path>.+?)(?:~(?P<generation>\d{1,9}))?#(?P<z>\d{1,9})", re.DOTALL)


class SectionId(Struct, frozen=True, order=True):
    """Name of one section: ``relative/path.mrc#z``, or ``relative/path.mrc~2#z`` when the file
    name was used again or the section was overwritten.

    Attributes
    ----------
    path : str
        POSIX path relative to the watched folder; never absolute, never above it.
    z : int
        0-based index in the file.
    generation : int
        1 for the first file of that name, then 2, 3, ...

    Raises
    ------
    ValueError
        If the path is empty, absolute, leaves its folder or has control characters, or if an
        index is out of range. Ids also come from the network, so every one is checked.

    Examples
    --------
    >>> str(SectionId("gold/a.mrc", 3))
    'gold/a.mrc#3'
    >>> SectionId.parse("gold/a.mrc~2#3").generation
    2
    """

    path: str
    z: int
    generation: int = 1

    def __post_init__(self) -> None:
        if reason := _why_not_plain(self.path):
            shown = self.path if len(self.path) <= _LONGEST_PATH else f"{self.path[:80]}..."
            msg = f"section path {shown!r} is not a plain path inside the watched folder: {reason}"
            raise ValueError(msg)
        if not (0 <= self.z < 10**9 and 1 <= self.generation < 10**9):
            msg = f"section {self.path!r}: z {self.z}, generation {self.generation} out of range"
            raise ValueError(msg)

    def __str__(self) -> str:
        # A path that itself ends in ~digits says its generation, so that parse() is unambiguous.
        explicit = self.generation != 1 or re.search(r"~\d{1,9}$", self.path)
        return f"{self.path}{f'~{self.generation}' if explicit else ''}#{self.z}"

    @property
    def file(self) -> str:
        """The file and its generation, without the section."""
        return str(self).rpartition("#")[0]

    @classmethod
    def parse(cls, text: str) -> SectionId:
        """Read what ``str()`` of an id gave; ValueError for anything else."""
        match = _SECTION.fullmatch(text)
        if match is None:
            msg = f"{text!r} is not a section id; expected relative/path.mrc#z"
            raise ValueError(msg)
        return cls(match["path"], int(match["z"]), int(match["generation"] or 1))


def _why_not_plain(path: str) -> str:
    """The fault in the path of a section; empty if there is none."""
    if len(path) > _LONGEST_PATH:
        return f"it has {len(path)} letters, {_LONGEST_PATH} are taken"
    for letter, name in (("\\", "a backslash"), (":", "a colon"), ("\t", "a tab")):
        if letter in path:
            return f"it has {name}"
    if _SURROGATE(path):
        return "its letters are in no known code"
    if _CONTROL(path):
        return "it has a line end or another control character"
    return "" if _NO_NAMES.isdisjoint(path.split("/")) else "it is empty or leads out"


class Metadata(Struct, frozen=True, omit_defaults=True):
    """Metadata of a section from the microscope; None where it gave none.

    Positions on the stage in µm, tilt in degrees, defocus in µm (negative is underfocus, as
    SerialEM writes it), dose in e/Å², voltage in kV. ``acquired`` is ISO 8601 without a zone: the
    camera PC's clock. ``file_title`` is the first label of an MRC header; SerialEM's tells when the
    file was opened, which tells two files of one name apart. ``piece_x_px``, ``piece_y_px`` is the
    place of a montage's piece (of its lower left corner, from the left and from the bottom) in
    montage section ``piece_z``. ``image_to_stage`` is xpx, xpy, ypx, ypy, dx, dy: stage x in µm is
    ``xpx * x + xpy * y + dx``, stage y ``ypx * x + ypy * y + dy``, for x in columns and y in rows
    from the top of SerialEM's display. ``pixel_size_source`` is "mdoc refined", "mdoc", "header",
    "configuration", in the order in which they are asked, or "user" before the configuration.
    ``first_row`` is where SerialEM's display, or a program of the file's format, shows row 0.
    """

    pixel_size_source: str | None = None
    stage_x_um: float | None = None
    stage_y_um: float | None = None
    stage_z_um: float | None = None
    tilt_deg: float | None = None
    defocus_um: float | None = None
    dose_e_per_a2: float | None = None
    exposure_s: float | None = None
    magnification: float | None = None
    voltage_kv: float | None = None
    binning: float | None = None
    acquired: str | None = None
    navigator_label: str | None = None
    file_title: str | None = None
    min_max_mean: tuple[float, float, float] | None = None
    piece_x_px: int | None = None
    piece_y_px: int | None = None
    piece_z: int | None = None
    image_to_stage: tuple[float, float, float, float, float, float] | None = None
    first_row: FirstRow | None = None


class TrackerSettings(Struct, frozen=True):
    """Limits of the linking of a movie's particles; the defaults need no tuning.

    Attributes
    ----------
    max_step_px : float or None
        Longest step of a particle between two consecutive sections, drift taken off. None
        derives it from the steps seen so far (`TrackStep.gate_px` says what was used); a number
        is a limit on top of that.
    memory_frames : int
        A particle that is missed in more than so many sections is forgotten. Blank sections do
        not count.
    max_drift_px : float
        Longest drift or stage jump that is searched for. For periodic specimens (atomic columns,
        ordered arrays) a value below half the period excludes a slip by one row.
    """

    max_step_px: float | None = None
    memory_frames: int = 3
    max_drift_px: float = 100.0

    def __post_init__(self) -> None:
        for name in ("max_step_px", "max_drift_px"):
            value = getattr(self, name)
            if value is not None and not (0 < value < math.inf):
                msg = f"{name} = {value}: expected a positive number of pixels"
                raise ValueError(msg)
        if self.memory_frames < 0:
            msg = f"memory_frames = {self.memory_frames}: expected 0 or more sections"
            raise ValueError(msg)


class Acquired(Struct, frozen=True, eq=False, kw_only=True):
    """One section as far as it is known when it has been read.

    Attributes
    ----------
    section : SectionId
        Its name.
    pixel_size_nm : float or None
        None if neither header nor metadata give one.
    metadata : Metadata
        From the mdoc or the format's own header.
    stream : TrackerSettings or None
        The file is a movie, whose particles get identities that last: how they are linked. They
        travel, so that whoever stores the section needs no settings of its own. None for others.
    written_s : float or None
        POSIX time at which the file was last written, by the camera PC's clock.
    timings_s : dict
        Seconds by stage so far: ``wait_s`` for a worker, ``read_s``, then those of the analysis.
    versions : dict
        Of the software that was at work so far: what read the file, where that is more than NumPy,
        then what made the result.
    """

    section: SectionId
    pixel_size_nm: PixelSize | None = None
    metadata: Metadata = Metadata()
    stream: TrackerSettings | None = None
    written_s: float | None = None
    timings_s: dict[str, float] = {}
    versions: dict[str, str] = {}


class _Sent(Acquired, frozen=True, eq=False, kw_only=True):
    """Adds what is given by keyword only, so that a pixel size by position is refused."""

    number: int = 0


class Frame(_Sent, frozen=True, eq=False, tag="frame"):
    """One micrograph and what is known of it.

    Attributes
    ----------
    pixels : (H, W) int8, uint8, int16, uint16, float16 or float32
        In file order, as stored.
    number : int
        In the sequence of the frames that an agent sent; by it a gap is seen. 0 offline.

    The other attributes are those of `Acquired`, by keyword.
    """

    section: SectionId
    pixels: Pixels

    def __repr__(self) -> str:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        return f"Frame({self.section}: {shape} {dtype}, pixel_size_nm={self.pixel_size_nm})"

    def pixels_crc32(self) -> int:
        """Checksum of the pixels' bytes, to tell whether a file is still the same."""
        return zlib.crc32(np.ascontiguousarray(self.pixels).data)


class Summary(Struct, frozen=True):
    """Numbers of one section.

    Diameters are equivalent circular diameters of the particles that do not touch the edge
    (ISO 21363 counts whole particles only); NaN where there is none. ``area_fraction`` counts
    every particle pixel. ``count_round`` and the others of `SHAPE_CLASSES` count whole particles
    that are not small. ``mean_intensity`` is that of the micrograph as stored, in its counts.
    """

    count: int
    count_edge: int
    area_fraction: float
    mean_diameter_px: float
    median_diameter_px: float
    mean_diameter_nm: float
    median_diameter_nm: float
    count_round: int = 0
    count_elongated: int = 0
    count_faceted: int = 0
    count_irregular: int = 0
    count_aggregate: int = 0
    mean_intensity: float = math.nan


class Statistics(Struct, frozen=True, kw_only=True):
    """Numbers of a population: of its particles that do not touch the edge, each counted once.

    Made by `nanostream.particles.populations`. NaN where there are too few particles to tell.

    Attributes
    ----------
    count : int
        Particles with a size; of a movie its tracks.
    edge : int
        Particles without one, for they touch the edge (of a movie: in each of their frames).
    unsized : int
        Particles without one though they are whole: their pixel size is not known, or what is
        stored can be no size.
    unit : str
        "nm" or "px", of the mean, the standard deviations and the quantiles.
    effective_count : float
        Particles of equal weight that would tell as much: `count` where no weights were given.
    mean, sd, sem, cv : float
        Arithmetic mean, standard deviation (of n - 1), that of the mean, and sd / mean.
    d10, d50, d90 : float
        Sizes that 10, 50 and 90 % of the particles, by number, do not exceed; d50 is the median.
    d50_low, d50_high : float
        95 % interval of the median of the population that these particles are a sample of.
    geometric_mean, gsd : float
        Geometric mean, and geometric standard deviation (a ratio, at least 1): the parameters of
        the log-normal distribution that fits best.
    lognormal_distance : float
        Kolmogorov's distance between that and the particles: greatest difference of the shares
        below a size. Above 0.89 / sqrt(n) the population is not log-normal (by 95 %).
    calibration_percent : float
        Standard uncertainty of the pixel size that widens the interval; 0 if none was given.
    relative_width : float
        Width of the interval, over the median, that is asked for.
    needed : float
        Particles that are missing until it is reached: 0 if there are enough, infinity if the
        pixel size alone is too uncertain.
    """

    count: int = 0
    edge: int = 0
    unsized: int = 0
    unit: str = "nm"
    effective_count: float = 0.0
    mean: float = math.nan
    sd: float = math.nan
    sem: float = math.nan
    cv: float = math.nan
    d10: float = math.nan
    d50: float = math.nan
    d90: float = math.nan
    d50_low: float = math.nan
    d50_high: float = math.nan
    geometric_mean: float = math.nan
    gsd: float = math.nan
    lognormal_distance: float = math.nan
    calibration_percent: float = 0.0
    relative_width: float = RELATIVE_WIDTH
    needed: float = math.nan


class Measured(Acquired, frozen=True, eq=False, kw_only=True):
    """One section in numbers and texts, after it has been segmented.

    Attributes
    ----------
    summary : Summary
        Numbers of the section.
    model : str
        Name of the model.
    model_sha256 : str
        Of its weights.
    threshold : float
        Probability above which a pixel is particle.
    normalization_maximum : float or None
        For models scaled by the data set's maximum: the value used.
    dropped : int
        Regions of the mask that were left out for being smaller than the least area.
    domain_score : float
        How usual such a micrograph is among the model's training data: 1 is right in their middle,
        0.01 rarer than 99 of 100 of them; NaN where the model does not know its own.
    warning : str
        Where the network is out of its depth, for a person; "" if there is nothing to say.
    """

    summary: Summary
    model: str
    model_sha256: str
    threshold: float
    normalization_maximum: float | None = None
    dropped: Annotated[int, Meta(ge=0)] = 0
    domain_score: float = math.nan
    warning: Annotated[str, Meta(max_length=1000)] = ""


class Segmentation(Measured, frozen=True, eq=False, kw_only=True):
    """Masks and numbers that the network made of one micrograph.

    Attributes
    ----------
    labels : (H, W) int32
        0 is background; each particle has its own number.
    probability : (H, W) float32
        Of the particle class, 0 to 1.
    particles : DataFrame
        One row per particle, columns of `PARTICLE_DTYPE`.

    The other attributes are those of `Measured`.
    """

    labels: NDArray[np.int32]
    probability: NDArray[np.float32]
    particles: pd.DataFrame

    def __repr__(self) -> str:
        count = self.summary.count
        found = "1 particle" if count == 1 else f"{count} particles"
        return (
            f"Segmentation({self.labels.shape}: {found} by {self.model} above {self.threshold:g})"
        )


class Result(Measured, frozen=True, eq=False, kw_only=True, tag="result"):
    """A segmentation as it travels to the sink and is stored.

    Attributes
    ----------
    labels : (H, W) uint16 or uint32
        The narrowest type that holds the number of particles.
    probability : (H, W) uint8
        0 to 255 for 0 to 1.
    particles : (N,) structured array of `PARTICLE_DTYPE`
    pixels_crc32 : int
        Checksum of the micrograph's bytes, to tell later whether the file is still the same.

    The other attributes are those of `Measured`.
    """

    labels: Labels
    probability: Probability
    particles: Particles
    pixels_crc32: Annotated[int, Meta(ge=0, lt=2**32)]

    @classmethod
    def of(
        cls, frame: Frame, segmentation: Segmentation, *, versions: dict[str, str] | None = None
    ) -> Result:
        """Compact form of a segmentation; live and offline results are stored through it."""
        table = np.empty(len(segmentation.particles), PARTICLE_DTYPE)
        for name in PARTICLE_DTYPE.names or ():
            table[name] = segmentation.particles[name].to_numpy()
        scaled = segmentation.probability * np.float32(255)
        np.rint(scaled, out=scaled)
        narrow = np.uint16 if segmentation.summary.count < 2**16 else np.uint32
        known = shared(frame, Acquired) | {
            "timings_s": segmentation.timings_s,
            "versions": frame.versions | (versions or {}),
        }
        return cls(
            **known,
            **shared(segmentation, Measured, but=known),
            labels=segmentation.labels.astype(narrow),
            probability=scaled.astype(np.uint8),
            particles=table,
            pixels_crc32=frame.pixels_crc32(),
        )


def shared(record: Acquired, kind: type[Acquired], *, but: Iterable[str] = ()) -> dict[str, Any]:
    """Fields that a record has in common with a kind of record, to make one of that kind.

    Parameters
    ----------
    kind : type
        A base of the record's type.
    but : iterable of str
        Fields that get other values.
    """
    return {name: getattr(record, name) for name in kind.__struct_fields__ if name not in but}


class State(StrEnum):
    """Activity of a process, as the sink knows it; also as the dashboard shows it."""

    LOADING = "loading"
    READY = "ready"
    COMPUTING = "computing"
    WATCHING = "watching"
    STORING = "storing"
    SILENT = "silent"
    CRASHED = "crashed"


class Health(Struct, frozen=True):
    """A process of the pipeline, as far as the sink knows it.

    Attributes
    ----------
    name : str
        Of the process; there can be several workers.
    role : str
        Its part in the pipeline.
    state : State
        Its last one, or SILENT.
    age_s : float
        Since its last sign of life.
    detail : str
        For a person.
    ready_s : float or None
        POSIX time since which the process has reported itself ready; None as long as it has not.
    """

    name: str
    role: Role
    state: State
    age_s: float
    detail: str = ""
    ready_s: float | None = None


class Severity(StrEnum):
    """How much an alarm matters: it stops results, it will or may, or it is worth knowing."""

    PROBLEM = "problem"
    WARNING = "warning"
    NOTICE = "notice"


class Alarm(Struct, frozen=True):
    """A condition that the operator must know of, as long as it lasts.

    Attributes
    ----------
    name : str
        In two or three words; there is one alarm of a name.
    severity : Severity
        Of its condition now; a worse one raises it anew.
    text, advice : str
        What happened, with its value, and what to do.
    since_s : float
        POSIX time at which it was raised.
    cleared_s : float or None
        POSIX time at which its cause was gone.
    acknowledged : bool
        Somebody has seen it.
    """

    name: str
    severity: Severity
    text: str
    advice: str = ""
    since_s: float = 0.0
    cleared_s: float | None = None
    acknowledged: bool = False


class Snapshot(Struct, frozen=True, tag="snapshot"):
    """All that a screen needs, at one moment.

    ``mask`` is a picture of the last section's labels for a terminal, ``mask_shape`` rows by
    columns of one byte each, row 0 at the bottom: 0 background, 1 particle. ``diameter_counts`` is
    the running size histogram between ``diameter_edges`` (nm, or px if no pixel size is known).
    ``population`` is what is known of the sizes, of a movie by its tracks, up to a second ago.
    ``unsettled`` is the number of files that may still bring or change a section.
    ``last_warning`` is of the last section, ``warned`` the number of sections since the sink's
    start that had one.
    """

    session: str
    time_s: float
    seen: int = 0
    waiting: int = 0
    in_work: int = 0
    longest_wait_s: float = 0.0
    unsettled: int = 0
    stored: int = 0
    failed: int = 0
    sections_per_minute: float = 0.0
    latency_s: float = math.nan
    last_section: str = ""
    last_summary: Summary | None = None
    last_timings_s: dict[str, float] = {}
    last_warning: str = ""
    warned: int = 0
    mask: bytes = b""
    mask_shape: tuple[int, int] = (0, 0)
    diameter_edges: tuple[float, ...] = ()
    diameter_counts: tuple[int, ...] = ()
    diameter_unit: str = "nm"
    population: Statistics | None = None
    particles_total: int = 0
    tracks_total: int = 0
    health: tuple[Health, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    messages: tuple[str, ...] = ()

    @property
    def ready(self) -> set[Role]:
        """Roles that a process has reported itself ready for."""
        return {process.role for process in self.health if process.ready_s is not None}
