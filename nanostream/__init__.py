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
from typing import TYPE_CHECKING, Any

from nanostream.records import Frame, SectionId, Segmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanostream.results.session import Session

__all__ = ["Frame", "SectionId", "Segmentation", "open_session", "read_section", "segment"]

__version__ = "0.1.0"


def read_section(path: str | Path, z: int = 0) -> Frame:
    """One section of a micrograph file, also while SerialEM still writes the file.

    Parameters
    ----------
    path : path
        MRC, or any format that ncempy or OpenCV read (dm3, dm4, ser, emd, TIFF, PNG).
    z : int
        0-based section.

    Raises
    ------
    MicrographError
        If the file is no micrograph or has no such section.
    NotReadyError
        If the section is not complete on disk yet.
    """
    from nanostream.acquisition.formats import read_micrograph

    return read_micrograph(Path(path), z)


def segment(
    image: Frame | NDArray[Any],
    *,
    model: str = "default",
    pixel_size_nm: float | None = None,
    threshold: float | None = None,
) -> Segmentation:
    """Which pixels are nanoparticle, and each particle's numbers.

    Parameters
    ----------
    image : Frame or (H, W) array
        A micrograph.
    model : str
        Name of a model; ``nanostream models list`` shows them.
    pixel_size_nm : float, optional
        Of a bare array; without it lengths are in pixels only.
    threshold : float, optional
        Instead of the one on the model's card.

    Raises
    ------
    ModelError
        If there is no such model, or TensorFlow is not installed (the extra ``worker``).
    """
    from nanostream.analysis import cached_analyzer

    if not isinstance(image, Frame):
        image = Frame(SectionId("array", 0), image, pixel_size_nm)
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
