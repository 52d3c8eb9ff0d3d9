"""Masks of a session as pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from nanostream.results.exports.targets import Target
from nanostream.results.session import Session

__all__ = ["write_masks"]


def write_masks(session: Session, target: Target) -> list[Path]:
    """Files that were written, one per section, below the folders that the micrographs are in.

    ``day1/gold.mrc.z3_mask.png`` is of ``day1/gold.mrc#3``: 255 where a particle is, else 0, in
    the micrograph's size and order of rows. SerialEM and 3dmod show the first row of an MRC at the
    bottom.
    """
    written = []
    sections = session.section_ids()
    for number, section in enumerate(sections):
        target.progress(number, len(sections), section)
        file, z = section.rsplit("#", 1)
        name = f"{file}.z{z}_mask.png"
        mask = np.where(session.labels(section) > 0, np.uint8(255), np.uint8(0))
        with target.whole(name) as path:
            # Not imwrite, which opens no names outside the ANSI code page on Windows.
            path.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
        written.append(target.path(name))
    return written
