"""Live segmentation of HRTEM micrographs beside SerialEM.

The route of a micrograph through the library::

    acquisition   what the microscope wrote: a section of an MRC, complete   -> Frame
    transport     how records travel between processes (ZeroMQ)
    segmentation  filter, scale, tile, predict, threshold, label             -> Segmentation
    particles     sizes, shapes, positions; identities over time, drift      -> table, tracks
                  size distributions, lattice fringes and their phases
    results       masks and tables committed together, read back, checked    -> Session
                  for others: result files, exports, pictures, a report
    training      how a model comes to be

The processes that do this while SerialEM acquires are in `nanostream_services`; the command line
is ``nanostream --help``. For notebooks::

    import nanostream as ns

    frame = ns.read_section("gold.mrc", 3)     # Frame: pixels, pixel_size_nm, metadata
    seg = ns.segment(frame)                    # Segmentation: labels, probability, particles
    session = ns.open_session("SESSION")       # session.particles, session.labels(id), ...

Arrays are (y, x), in file order: SerialEM shows row 0 of an MRC at the bottom of its display, of a
TIFF at the top, and ``frame.metadata.first_row`` says which. Positions are 0-based pixel centres.
Lengths in nm carry ``_nm``, times ``_s``.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsIndex, overload

from nanostream.records import Frame, SectionId, Segmentation

if TYPE_CHECKING:
    from nanostream.acquisition.requests import Z
    from nanostream.results.session import Session

__all__ = ["Frame", "SectionId", "Segmentation", "open_session", "read_section", "segment"]

__version__ = "0.1.0"


class _Array(Protocol):
    """An object that NumPy can make an array of."""

    def __array__(self) -> Any: ...


#: A file, a frame, an array or the rows of one.
Image = str | Path | Frame | _Array | Sequence[Sequence[float]]


# A text is a sequence of texts, too: the first that fits counts.
@overload
def read_section(  # type: ignore[overload-overlap]
    path: Image, z: SupportsIndex = 0, *, pixel_size_nm: float | None = None
) -> Frame: ...
@overload
def read_section(
    path: Image | Sequence[Image], z: Literal["all"], *, pixel_size_nm: float | None = None
) -> list[Frame]: ...
@overload
def read_section(
    path: Sequence[Image], z: Z = 0, *, pixel_size_nm: float | None = None
) -> list[Frame]: ...
def read_section(
    path: Image | Sequence[Image], z: Z = 0, *, pixel_size_nm: float | None = None
) -> Frame | list[Frame]:
    """One section of a micrograph file at rest, or of a stack that SerialEM still adds to.

    Parameters
    ----------
    path : path, (H, W) array, or list of them
        MRC, TIFF, dm3, dm4, ser, emd, PNG or NPY; what an mdoc or idoc of SerialEM beside it says
        of the section is in ``metadata``. An array, of NumPy or of what becomes one (dask,
        HyperSpy's ``.data``, Pillow), becomes a frame. A list gives a list.
    z : int or "all"
        0-based section. ``"all"`` gives a list of every section of the file, or of all files of a
        folder or of a wildcard.
    pixel_size_nm : float, optional
        For what does not say it.

    Raises
    ------
    MicrographError
        If the file is not a micrograph or has no such section.
    NotReadyError
        If the section is not complete on disk yet.
    ConfigError
        If `z` or `pixel_size_nm` cannot be one.

    Examples
    --------
    >>> read_section([[1, 2], [3, 4]], pixel_size_nm=0.1)
    Frame(array#0: (2, 2) float32, pixel_size_nm=0.1)
    >>> ns.read_section("gold.mrc", 3)  # doctest: +SKIP
    Frame(gold.mrc#3: (4096, 4096) int16, pixel_size_nm=0.026)
    >>> ns.read_section("day1/**/*.mrc", "all")  # doctest: +SKIP
    [Frame(a.mrc#0: (4096, 4096) int16, pixel_size_nm=0.026), ...]
    """
    from nanostream.acquisition.requests import frame_of, frames_of, is_several

    if is_several(path, z):
        return list(frames_of(path, z, pixel_size_nm=pixel_size_nm))
    return frame_of(path, z, pixel_size_nm=pixel_size_nm)


@overload
def segment(  # type: ignore[overload-overlap]
    image: Image,
    z: SupportsIndex = 0,
    *,
    model: str = "default",
    pixel_size_nm: float | None = None,
    threshold: float | None = None,
) -> Segmentation: ...
@overload
def segment(
    image: Image | Sequence[Image],
    z: Literal["all"],
    *,
    model: str = "default",
    pixel_size_nm: float | None = None,
    threshold: float | None = None,
) -> list[Segmentation]: ...
@overload
def segment(
    image: Sequence[Image],
    z: Z = 0,
    *,
    model: str = "default",
    pixel_size_nm: float | None = None,
    threshold: float | None = None,
) -> list[Segmentation]: ...
def segment(
    image: Image | Sequence[Image],
    z: Z = 0,
    *,
    model: str = "default",
    pixel_size_nm: float | None = None,
    threshold: float | None = None,
) -> Segmentation | list[Segmentation]:
    """Which pixels are nanoparticle, and each particle's numbers.

    Parameters
    ----------
    image : path, Frame, (H, W) array or list of rows; or a list of them
        As in `read_section`. A list gives a list.
    z : int or "all"
        0-based section of the file. ``"all"`` gives a list of every section of the file, or of all
        files of a folder or of a wildcard; of many ``nanostream segment`` makes a session, which
        is on disk.
    model : str
        Name of a model; ``nanostream models list`` shows them.
    pixel_size_nm : float, optional
        Of an array, or of a file or frame that does not say it; without it lengths are in pixels
        only.
    threshold : float, optional
        Instead of the one on the model's card.

    Returns
    -------
    Segmentation
        ``labels`` ((H, W) int32: 0 is background, each particle has its number), ``probability``,
        ``particles`` (a DataFrame), ``summary``, ``warning``.

    Raises
    ------
    ModelError
        If there is no such model, or TensorFlow is not installed (the extra ``worker``).
    MicrographError
        As `read_section`; of an array, if it is no image of real numbers.
    ConfigError
        If `z`, `pixel_size_nm` or `threshold` cannot be one.

    Examples
    --------
    >>> seg = ns.segment("gold.png", pixel_size_nm=0.026)  # doctest: +SKIP
    >>> seg.particles[["x", "y", "diameter_nm"]]  # doctest: +SKIP
    >>> plt.imshow(seg.labels > 0)  # doctest: +SKIP
    >>> movie = ns.segment("movie.mrc", "all")  # doctest: +SKIP
    >>> [seg.summary.count for seg in ns.segment("day1/*.tif", "all")]  # doctest: +SKIP
    """
    from nanostream.acquisition.requests import frame_of, frames_of, is_several
    from nanostream.analysis import cached_analyzer
    from nanostream.errors import ConfigError

    possible = isinstance(threshold, Real) and 0 < float(threshold) < 1
    if threshold is not None and not possible:
        msg = f"threshold={threshold!r}: give a probability above 0 and below 1"
        raise ConfigError(msg)
    if is_several(image, z):
        frames = frames_of(image, z, pixel_size_nm=pixel_size_nm)
        return [cached_analyzer(model, threshold)(frame) for frame in frames]
    frame = frame_of(image, z, pixel_size_nm=pixel_size_nm)
    return cached_analyzer(model, threshold)(frame)


def open_session(folder: str | Path) -> Session:
    """A session folder as tables, also while the session is running.

    Raises
    ------
    SessionError
        If the folder is no nanostream session or of a newer version.
    """
    from nanostream.results.session import Session

    return Session(Path(folder))
