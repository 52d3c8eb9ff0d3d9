"""Masks of a session in COCO's format, for training and scoring of other networks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nanostream import __version__
from nanostream.particles.runs import runs_of
from nanostream.records import SectionId
from nanostream.results.exports.movies import with_tracks
from nanostream.results.exports.targets import Target
from nanostream.results.session import Session

__all__ = ["write_annotations"]

_FILE = "annotations.json"

#: Of each annotation, besides what COCO wants.
_MEASURES = ("label", "track", "mean_probability", "shape_class", "touches_edge")


def write_annotations(session: Session, target: Target) -> list[Path]:
    """The one file that was written: an image per section, an annotation per particle.

    Masks are run-length encoded, exact to the pixel, in the micrograph's size and order of rows;
    ``bbox`` is x, y, width, height from row 0. ``file_name`` is the micrograph's path below the
    watched folder and ``z`` its section in it.
    """
    sections = session.sections
    names = sections["section"].tolist()
    particles = with_tracks(session, session.particles).groupby("section")
    rows = particles.indices
    images = _images(sections)
    with target.whole(_FILE) as path, path.open("wb") as file:
        file.write(b'{"info": ' + _json({"description": f"nanostream {__version__}"}))
        file.write(b', "licenses": [], "categories": ' + _json([{"id": 1, "name": "particle"}]))
        file.write(b',\n"images": ' + _json(images) + b',\n"annotations": [')
        number = 0
        for image, name in enumerate(names, 1):
            target.progress(image - 1, len(names), name)
            table = particles.get_group(name) if name in rows else None
            for annotation in _annotations(session.labels(name), table):
                number += 1
                file.write(b"\n" if number == 1 else b",\n")
                file.write(_json({"id": number, "image_id": image} | annotation))
        file.write(b"]}\n")
    return [target.path(_FILE)]


def _images(sections: pd.DataFrame) -> list[dict[str, Any]]:
    parsed = [SectionId.parse(name) for name in sections["section"]]
    table = pd.DataFrame(
        {
            "id": np.arange(1, len(parsed) + 1),
            "file_name": [section.path for section in parsed],
            "z": [section.z for section in parsed],
            "section": sections["section"],
            "height": sections["height_px"],
            "width": sections["width_px"],
            "pixel_size_nm": sections["pixel_size_nm"],  # NaN becomes null
        }
    )
    return _records(table)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows, by the names of their columns, in Python's own types."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def _annotations(labels: NDArray[np.int32], table: pd.DataFrame | None) -> Iterator[dict[str, Any]]:
    """Annotation of each particle of a mask; `table` has its measures."""
    from pycocotools import mask

    height, width = labels.shape
    measures: dict[int, dict[str, Any]] = {}
    if table is not None:
        measures = {row["label"]: row for row in _records(table[list(_MEASURES)])}
    for label, counts in _counts(labels):
        encoded = mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        yield {
            "category_id": 1,
            "iscrowd": 0,
            "segmentation": {"size": [height, width], "counts": encoded["counts"].decode("ascii")},
            "area": int(mask.area(encoded)),
            "bbox": mask.toBbox(encoded).tolist(),
            **measures.get(label, {"label": label}),
        }


def _counts(labels: NDArray[np.int32]) -> Iterator[tuple[int, list[int]]]:
    """Label and COCO's counts of each particle: pixels out, in, out ... down the columns."""
    runs = runs_of(np.ascontiguousarray(labels.T))
    start, end = runs.start[runs.order], (runs.start + runs.length)[runs.order]
    bounds = [*runs.first.tolist(), start.size]
    for label, first, last in zip(runs.label.tolist(), bounds[:-1], bounds[1:], strict=True):
        edges = np.stack([start[first:last], end[first:last]], axis=1).reshape(-1)
        counts = np.diff(edges, prepend=0, append=labels.size)
        yield label, counts.tolist()
