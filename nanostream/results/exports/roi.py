"""Outlines of a session's particles for the ROI manager of ImageJ."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from nanostream.results.exports.movies import stacks
from nanostream.results.exports.outlines import outlines
from nanostream.results.exports.targets import Target
from nanostream.results.identities import WITHOUT_IDENTITY
from nanostream.results.label_stacks import LabelStack
from nanostream.results.session import Session

__all__ = ["write_rois"]


def write_rois(session: Session, target: Target) -> list[Path]:
    """Files that were written: a ZIP of ROIs per file of the session.

    ``gold.mrc_rois.zip`` has a polygon for each particle of ``gold.mrc``, at the slice of its
    section, called ``z00003_p00012`` by section and label, in a movie ``z00003_t00007`` by section
    and track. A second piece of a particle has ``_2`` at its end.
    """
    found = stacks(session)
    total = sum(len(stack.stored) for stack in found)
    done = left_out = 0
    written = []
    for stack in found:
        name = f"{stack.file}_rois.zip"
        with (
            target.whole(name) as path,
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for z, section in enumerate(stack.sections):
                if section is None:
                    continue
                target.progress(done, total, section)
                done += 1
                for roi, content in _rois(stack, z):
                    archive.writestr(f"{roi}.roi", content)
                left_out += _without_track(stack, section)
        written.append(target.path(name))
    if left_out:
        target.note(f"{left_out} particles of movies {WITHOUT_IDENTITY}")
    return written


def _rois(stack: LabelStack, z: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of each ROI of a section."""
    from roifile import ROI_TYPE, ImagejRoi

    kind = "t" if stack.is_movie else "p"
    for number, polygons in outlines(stack[z]):
        for piece, polygon in enumerate(polygons, 1):
            name = f"z{z:05d}_{kind}{number:05d}{f'_{piece}' if piece > 1 else ''}"
            roi = ImagejRoi.frompoints(polygon, name=name, position=z)
            roi.roitype = ROI_TYPE.TRACED  # as the wand's: corners of pixels, all inside
            yield name, roi.tobytes()


def _without_track(stack: LabelStack, section: str) -> int:
    """Particles of a movie's section that have no track yet."""
    if not stack.is_movie or section in stack.tracks:
        return 0
    return int(stack.read(section).max(initial=0))
