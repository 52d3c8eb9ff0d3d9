"""Every kind of file that SerialEM leaves in its folder, and what is right of each. No test.

One subfolder for each kind, so that all of them can be written below one watched folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.simulator import StackWriter, script
from nanostream.records import FirstRow

Images = Iterator[NDArray[Any]]

MONDAY = datetime(2026, 11, 23, 9, 36, 56)


@dataclass(frozen=True)
class Acquired:
    """Files of one kind.

    Attributes
    ----------
    write : callable
        Writes them into a folder that is empty, with as many images as it needs.
    sections : dict of str to int
        Sections of each file, by its name.
    pixel_size_nm, source
        What is right if ``[watch] pixel_size_nm`` says nothing; None is not known.
    stage_x_um : float or None
        A sidecar's word that is believed; None where there is no sidecar of this file.
    pieces : tuple
        Of a montage: x, y (px) and z of each section.
    """

    write: Callable[[Path, Images], None]
    sections: dict[str, int]
    pixel_size_nm: float | None
    source: str | None
    first_row: FirstRow = "bottom"
    stage_x_um: float | None = 12.5
    pieces: tuple[tuple[int, int, int], ...] = ()

    def ids(self, folder: str) -> list[tuple[str, int]]:
        """Path below the watched folder and number of each section."""
        return [(f"{folder}/{n}", z) for n, count in self.sections.items() for z in range(count)]


def _stack(**keys: object) -> Callable[..., Callable[[Path, Images], None]]:
    def with_options(**options: Any) -> Callable[[Path, Images], None]:
        def write(folder: Path, images: Images) -> None:
            with StackWriter(folder / "gold.mrc", **options) as stack:
                for _ in range(2):
                    stack.append(next(images), **keys)

        return write

    return with_options


def _session(kind: str, count: int, **options: Any) -> Callable[[Path, Images], None]:
    def write(folder: Path, images: Images) -> None:
        chosen = [next(images) for _ in range(count)]
        for _ in script(kind, chosen, folder, name="gold", pixel_size_nm=0.026, **options):
            pass

    return write


def _beside_an_older_mdoc(folder: Path, images: Images) -> None:
    """A file name that is used again, and SerialEM was told to write no mdoc this time."""
    path, mdoc = folder / "gold.mrc", folder / "gold.mrc.mdoc"
    sunday = MONDAY - timedelta(days=1)
    with StackWriter(path, pixel_size_nm=0.05, clock=lambda: sunday) as stack:
        stack.append(next(images))
    text = mdoc.read_bytes()
    with StackWriter(path, pixel_size_nm=0.02, mdoc=False, clock=lambda: MONDAY) as stack:
        stack.append(next(images))
    mdoc.write_bytes(text)


def _pages(folder: Path, images: Images) -> None:
    """A TIFF of several images, as SerialEM can also save."""
    pictures = [np.asarray(next(images), np.uint16) for _ in range(2)]
    assert cv2.imwritemulti(str(folder / "gold.tif"), pictures)
    sections = "".join(
        f"\n[ZValue = {z}]\nPixelSpacing = 0.26\nStagePosition = 12.5 -3.25\n"
        "DateTime = 23-Nov-2026  09:36:56\n"
        for z in range(2)
    )
    (folder / "gold.tif.mdoc").write_text(f"PixelSpacing = 0.3\n{sections}")


_PIECES = ((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0))

#: By the name of the subfolder.
KINDS: dict[str, Acquired] = {
    "mrc": Acquired(
        _stack()(mdoc=False, pixel_size_nm=0.026),
        {"gold.mrc": 2},
        0.026,
        "header",
        stage_x_um=None,
    ),
    "mrc-mdoc": Acquired(_stack()(pixel_size_nm=0.026), {"gold.mrc": 2}, 0.026, "mdoc"),
    "mrc-refined": Acquired(
        _stack(RefinedPixelSpacing=0.25)(pixel_size_nm=0.026),
        {"gold.mrc": 2},
        0.025,
        "mdoc refined",
    ),
    "mrc-uncalibrated": Acquired(_stack()(), {"gold.mrc": 2}, None, None),
    "mrc-older-mdoc": Acquired(
        _beside_an_older_mdoc, {"gold.mrc": 1}, 0.02, "header", stage_x_um=None
    ),
    "montage": Acquired(
        _session("montage", 4, mdoc=False),
        {"gold.mrc": 4},
        0.026,
        "header",
        stage_x_um=None,
        pieces=_PIECES,
    ),
    "montage-mdoc": Acquired(
        _session("montage", 4), {"gold.mrc": 4}, 0.026, "mdoc", pieces=_PIECES
    ),
    "frames": Acquired(_session("gatan", 8), {"gold_0001.mrcs": 8}, 0.026, "mdoc"),
    "tiff-mdoc": Acquired(
        _session("tiff", 2), {"gold_0001.tif": 1, "gold_0002.tif": 1}, 0.026, "mdoc", "top"
    ),
    "tiff-idoc": Acquired(
        _session("idoc", 2), {"gold0000.tif": 1, "gold0001.tif": 1}, 0.026, "mdoc", "top"
    ),
    "tiff-pages": Acquired(_pages, {"gold.tif": 2}, 0.026, "mdoc", "top"),
}


def write_all(folder: Path, images: Sequence[NDArray[Any]]) -> list[tuple[str, int]]:
    """All kinds below one folder, and their sections as (path, z).

    Each section has other pixels: the images again and again, shifted a little.
    """
    pictures = (np.roll(images[i % len(images)], i, axis=1) for i in range(10**6))
    sections = []
    for name, kind in KINDS.items():
        (folder / name).mkdir(parents=True)
        kind.write(folder / name, pictures)
        sections += kind.ids(name)
    return sections
