"""Particles and sections of a session as points for SerialEM's Navigator."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from nanostream.config import Feedback
from nanostream.records import SectionId
from nanostream.results.exports.targets import Target
from nanostream.results.outcomes import Outcomes
from nanostream.results.points import (
    FIELDS_FILE,
    navigator_file,
    navigator_head,
    particle_items,
    section_items,
)
from nanostream.results.result_files import publish, result_path
from nanostream.results.session import Session

__all__ = ["write_points"]


def write_points(session: Session, target: Target) -> list[Path]:
    """Files that were written: a section without particles, or without a known place, has none."""
    written = []
    usual = Feedback()
    with closing(Outcomes(session.folder)) as outcomes:
        fields = outcomes.ranked(usual.rank_by, usual.most_items)
        found = {FIELDS_FILE: section_items(fields, target.chart)}
        sections = session.section_ids()
        for number, name in enumerate(sections):
            target.progress(number, len(sections), name)
            outcome = outcomes.of(SectionId.parse(name))
            found[result_path(outcome.section, "nav")] = particle_items(
                outcome, target.chart, rank_by=usual.rank_by, most=usual.most_items
            )
    for name, points in found.items():
        if points:
            publish(
                target.folder / name, navigator_file(points, id="export"), mark=navigator_head()
            )
            written.append(target.folder / name)
    return written
