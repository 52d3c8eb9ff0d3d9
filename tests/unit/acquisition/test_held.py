"""Sections that wait for their metadata: in which order, and at what cost."""

from nanostream.acquisition import orders as o
from nanostream.acquisition.held import HeldSections
from nanostream.records import Metadata, SectionId


def sections(path, *numbers):
    return [SectionId(path, z) for z in numbers]


def unanswered(order: o.ReadSidecar):
    return o.SidecarRead(order, dict.fromkeys(order.sections), has_mdoc=True)


def next_of(held: HeldSections) -> o.ReadSidecar:
    """The next sidecar to be read; fails if there is none."""
    (order,) = held.next_sidecar()
    assert isinstance(order, o.ReadSidecar)
    return order


def test_a_turn_costs_no_more_with_many_that_wait():
    asked = []
    held = HeldSections(5.0, lambda path: asked.append(path) or "")
    for number in range(5000):
        held.hold(sections(f"{number}.mrc", 0), 0.0, written_s=None)
    asked.clear()
    held.begin_turn(1.0)
    order = next_of(held)
    assert order.path == "0.mrc"
    assert asked == ["0.mrc"]
    assert len(held) == len(set(held)) == 5000


def test_what_is_new_goes_first_and_what_was_just_read_last():
    held = HeldSections(5.0, lambda path: "")
    held.hold(sections("a.mrc", 0, 1), 0.0, written_s=None)
    held.hold(sections("b.mrc", 0), 0.0, written_s=None)
    held.begin_turn(1.0)
    order = next_of(held)
    assert (order.path, order.sections) == ("a.mrc", tuple(sections("a.mrc", 0, 1)))
    assert held.next_sidecar() == []  # one at a time
    assert held.described(unanswered(order)) == []
    held.begin_turn(2.0)
    held.hold(sections("c.mrc", 0), 2.0, written_s=None)
    for path in ("c.mrc", "b.mrc", "a.mrc"):
        order = next_of(held)
        assert order.path == path
        held.described(unanswered(order))
    assert held.next_sidecar() == []


def test_a_section_that_is_released_is_not_read_again_in_its_turn():
    held = HeldSections(5.0, lambda path: "")
    held.hold(sections("a.mrc", 0), 0.0, written_s=None)
    held.begin_turn(1.0)
    held.hold(sections("a.mrc", 1), 1.0, written_s=None)
    order = next_of(held)
    entries = {section: (0.5, Metadata()) for section in order.sections}
    (release,) = held.described(o.SidecarRead(order, entries, has_mdoc=True))
    assert release.section == SectionId("a.mrc", 1)
    order = next_of(held)
    assert order.sections == tuple(sections("a.mrc", 0))
    held.described(unanswered(order))
    assert held.next_sidecar() == []
    assert list(held) == sections("a.mrc", 0)
