"""Navigator points of particles and of sections, as far as their places on the stage are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanostream.results import navigator
from nanostream.results.navigator import Chart, NavigatorItem, OnMap, OnStage, Place
from nanostream.results.outcomes import Outcome
from nanostream.results.result_files import number

__all__ = [
    "FIELDS_FILE",
    "navigator_file",
    "navigator_head",
    "particle_items",
    "places",
    "section_items",
]

#: Where the ranked sections are.
FIELDS_FILE = "sections.nav"


def places(outcome: Outcome, chart: Chart) -> Callable[[float, float], Place] | None:
    """From a section's pixels to places, as far as the Navigator or the metadata tell.

    Parameters
    ----------
    chart : Chart
        Of the Navigator file whose maps are known; may be empty.

    Returns
    -------
    callable or None
        Takes x and y (px, 0-based pixel centres in file order) and gives the place on the map that
        the section is, or else on the stage by the mdoc's ImageToStageMatrix; None if there is
        neither.

    Raises
    ------
    ConfigError
        If the section can be one of several maps.
    """
    section, metadata = outcome.section, outcome.metadata
    shape = (outcome.height_px, outcome.width_px)
    on = navigator.find_map(chart.maps, section.path, section.z, shape=shape)
    if on is not None:
        return lambda x_px, y_px: OnMap(on, *outcome.in_map(x_px, y_px))
    if metadata.image_to_stage is None:
        return None
    xpx, xpy, ypx, ypy, dx, dy = metadata.image_to_stage
    z_um = metadata.stage_z_um or 0.0

    def on_stage(x_px: float, y_px: float) -> Place:
        x, y = outcome.in_script(x_px, y_px)
        return OnStage(xpx * x + xpy * y + dx, ypx * x + ypy * y + dy, z_um, chart.registration)

    return on_stage


def particle_items(
    outcome: Outcome, chart: Chart, *, rank_by: str, most: int
) -> list[NavigatorItem]:
    """A section's particles as Navigator points, the highest ranked first.

    Parameters
    ----------
    chart : Chart
        As `places`.
    rank_by : str
        ``diameter``; anything else is by probability.
    most : int
        Points at most.

    Returns
    -------
    list of NavigatorItem
        Empty if there are no particles or the place of the section is not known.
    """
    place = places(outcome, chart)
    if place is None:
        return []
    ranked = outcome.particles
    if rank_by == "diameter":
        ranked = sorted(ranked, key=lambda p: -p.diameter_px)
    found = []
    for rank, particle in enumerate(ranked[:most], 1):
        size = f"d={particle.diameter_px:.1f}px"
        if particle.diameter_nm is not None:
            size = f"d={particle.diameter_nm:.2f}nm"
        note = (
            f"nanostream {rank} {size} p={particle.probability:.2f} "
            f"{outcome.section.path} z{outcome.section.z}"
        )
        found.append(_item(outcome, place(particle.x_px, particle.y_px), note, particle.label))
    return found


def section_items(outcomes: Sequence[Outcome], chart: Chart) -> list[NavigatorItem]:
    """Sections as Navigator points at their middle, in the order given.

    A section whose pixels have no known place is at the stage position of its mdoc, and left out
    if there is none.
    """
    found = []
    for rank, outcome in enumerate(outcomes, 1):
        place, summary = _middle(outcome, chart), outcome.summary
        if place is None or summary is None:
            continue
        size = f"{number(summary.mean_diameter_nm)}nm"
        if outcome.pixel_size_nm is None:
            size = f"{number(summary.mean_diameter_px)}px"
        note = (
            f"nanostream {rank} n={summary.count} d={size} "
            f"area={summary.area_fraction:.3f} {outcome.section.path} z{outcome.section.z}"
        )
        found.append(_item(outcome, place, note, "field"))
    return found


def _middle(outcome: Outcome, chart: Chart) -> Place | None:
    place, metadata = places(outcome, chart), outcome.metadata
    if place is not None:
        return place((outcome.width_px - 1) / 2, (outcome.height_px - 1) / 2)
    if metadata.stage_x_um is None or metadata.stage_y_um is None:
        return None
    z_um = metadata.stage_z_um or 0.0
    return OnStage(metadata.stage_x_um, metadata.stage_y_um, z_um, chart.registration)


def _item(outcome: Outcome, place: Place, note: str, which: object) -> NavigatorItem:
    # The date tells two files of one name apart, and is the same when a session is analysed anew.
    section = (outcome.section, outcome.metadata.acquired or outcome.id)
    return navigator.point_item(
        place,
        item_id=navigator.stable_id(*section, which),
        group_id=navigator.stable_id("fields" if which == "field" else section),
        note=note,
    )


def navigator_file(items: Sequence[NavigatorItem], *, id: str) -> str:
    """A Navigator file that says who made it and from which result."""
    return navigator.navigator_text(items, saved_as=f"nanostream {id}")


def navigator_head(id: str = "") -> str:
    """How such a file begins; SerialEM would write its own name there."""
    return navigator.navigator_text([], saved_as=f"nanostream {id}").rstrip()
