"""Live segmentation of HRTEM micrographs beside SerialEM.

The route of a micrograph through the library::

    acquisition   what the microscope wrote: a section of an MRC, complete   -> Frame
    transport     how records travel between processes (ZeroMQ)
    segmentation  filter, scale, tile, predict, threshold, label             -> Segmentation
    particles     sizes, positions, identities over time                     -> table, tracks
    results       masks and tables committed together, read back, exported   -> Session
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

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from nanostream.records import Frame, SectionId, Segmentation

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from nanostream.results.session import Session

__all__ = ["Frame", "SectionId", "Segmentation", "open_session", "read_section", "segment"]

__version__ = "0.1.0"


def read_section(path: str | Path, z: int = 0, *, pixel_size_nm: float | None = None) -> Frame:
    """One section of a micrograph file at rest, or of a stack that SerialEM still adds to.

    Parameters
    ----------
    path : path
        MRC, TIFF, dm3, dm4, ser, emd, PNG or NPY; what an mdoc or idoc of SerialEM beside it says
        of the section is in ``metadata``.
    z : int
        0-based section.
    pixel_size_nm : float, optional
        For a file that does not say it.

    Raises
    ------
    MicrographError
        If the file is not a micrograph or has no such section.
    NotReadyError
        If the section is not complete on disk yet.
    """
    from nanostream.acquisition import frames

    return frames.read_section(Path(path), z, pixel_size_nm=pixel_size_nm)


def segment(
    image: Frame | ArrayLike | str | Path,
    z: int = 0,
    *,
    model: str = "default",
    pixel_size_nm: float | None = None,
    threshold: float | None = None,
) -> Segmentation:
    """Which pixels are nanoparticle, and each particle's numbers.

    Parameters
    ----------
    image : Frame, (H, W) array or list, or path
        A micrograph, or the file of one.
    z : int
        0-based section of the file.
    model : str
        Name of a model; ``nanostream models list`` shows them.
    pixel_size_nm : float, optional
        Of an array, or of a file or frame that does not say it; without it lengths are in pixels
        only.
    threshold : float, optional
        Instead of the one on the model's card.

    Raises
    ------
    ModelError
        If there is no such model, or TensorFlow is not installed (the extra ``worker``).
    MicrographError
        As `read_section`, of a path; of an array, if it is no image of real numbers.
    """
    import numpy as np

    from nanostream.acquisition.formats import wire_pixels
    from nanostream.analysis import cached_analyzer
    from nanostream.errors import MicrographError

    if isinstance(image, str | Path):
        image = read_section(image, z, pixel_size_nm=pixel_size_nm)
    elif not isinstance(image, Frame):
        try:
            pixels = wire_pixels(np.asarray(image), "array")
        except ValueError as error:  # of a list
            msg = "array: its rows are not all of one length"
            raise MicrographError(msg) from error
        image = Frame(SectionId("array", 0), pixels, pixel_size_nm=pixel_size_nm)
    elif image.pixel_size_nm is None and pixel_size_nm is not None:
        metadata = structs.replace(image.metadata, pixel_size_source="user")
        image = structs.replace(image, pixel_size_nm=pixel_size_nm, metadata=metadata)
    return cached_analyzer(model, threshold)(image)


def open_session(folder: str | Path) -> Session:
    """A session folder as tables, also while the session is running.

    Raises
    ------
    SessionError
        If the folder is no nanostream session or of a newer version.
    """
    from nanostream.results.session import Session

    return Session(Path(folder))
