"""Identities against simulated walks whose truth is known."""

from __future__ import annotations

from functools import cache
from itertools import chain, pairwise

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanostream.errors import SessionError
from nanostream.particles.tracks import Tracker, TrackerSettings, TrackStep
from tests.effort import examples


def table(x, y, diameter_px=12.0, touches_edge=False):
    """The columns a tracker reads."""
    x, y = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
    return pd.DataFrame(
        {
            "x": x,
            "y": y,
            "diameter_px": np.broadcast_to(diameter_px, x.shape).astype(float),
            "touches_edge": np.broadcast_to(touches_edge, x.shape),
        }
    )


@cache
def walks(sections=20, particles=150, *, step_px=1.0, missed=0.02, size_px=1024, seed=0):
    """Tables of Brownian particles, drift 0.7 px a section, jumps of 30 px; `truth` numbers them.

    Positions are given to every reader alike: do not change them.
    """
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(particles)))
    grid = np.stack(np.meshgrid(*(2 * [np.arange(side) + 0.5])), axis=-1).reshape(-1, 2)
    position = grid[:particles] * size_px / side + rng.uniform(-0.3, 0.3, (particles, 2)) * (
        size_px / side
    )
    diameter = rng.lognormal(np.log(14), 0.2, particles)
    jump_at = {sections // 5, sections // 2, 4 * sections // 5}
    drift = np.zeros((sections, 2))
    tables = []
    for section in range(sections):
        if section:
            direction = rng.uniform(0, 2 * np.pi)
            drift[section] = [0.6, 0.36]
            if section in jump_at:
                drift[section] += 30 * np.array([np.cos(direction), np.sin(direction)])
            position = position + rng.normal(0, step_px, position.shape) + drift[section]
        seen = rng.random(particles) >= missed
        rows = table(position[seen, 1], position[seen, 0], diameter[seen])
        tables.append(rows.assign(truth=np.flatnonzero(seen)))
    return tables, drift


def follow(tables, tracker=None) -> list[TrackStep]:
    tracker = Tracker() if tracker is None else tracker
    return [tracker.step(frame, rows) for frame, rows in enumerate(tables)]


@cache
def followed():
    """Tracks that a tracker makes of the walks; do not change them."""
    return follow(walks()[0])


def right_links(tables, steps) -> float:
    """Share of particles found in two consecutive sections that keep their identity."""
    rows = [
        rows[["truth"]].assign(id=step.particle) for rows, step in zip(tables, steps, strict=True)
    ]
    both = [a.merge(b, on="truth") for a, b in pairwise(rows)]
    return float(np.mean(np.concatenate([m["id_x"] == m["id_y"] for m in both])))


def same(a: TrackStep, b: TrackStep) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True)
        for name in TrackStep.__dataclass_fields__
    )


@pytest.mark.parametrize(
    ("particles", "step_px"), [(150, 0.5), (150, 1.0), (100, 5.0), (20, 1.0), (1000, 2.0)]
)
def test_links_are_right_through_drift_and_stage_jumps(particles, step_px):
    tables, _ = walks(sections=15, particles=particles, step_px=step_px)
    assert right_links(tables, follow(tables)) >= 0.98


def test_drift_is_measured_to_a_fraction_of_the_step():
    _, drift = walks()
    steps = followed()
    assert all(step.drift_votes >= 75 for step in steps[1:])
    # The mean of 150 Brownian steps of 1 px is known to 0.08 px; the median to a quarter less.
    assert np.abs(np.array([s.drift_px for s in steps]) - drift).max() < 0.4
    total = np.array([s.cumulative_drift_px for s in steps])
    assert np.allclose(total, np.cumsum([s.drift_px for s in steps], axis=0))


def test_drift_corrected_positions_stay_where_stage_jumps_move_the_raw_ones():
    tables, _ = walks(step_px=0.5)
    rows = pd.concat(
        t.assign(id=s.particle, y_corr=t["y"] - s.cumulative_drift_px[0])
        for t, s in zip(tables, follow(tables), strict=True)
    )
    spread = rows.groupby("id")[["y", "y_corr"]].agg(np.ptp)
    assert spread["y_corr"].max() < 20 < spread["y"].max()


@pytest.mark.parametrize(("strays", "votes"), [(0, 5), (1, 4), (2, 0)])
def test_few_particles_follow_a_stage_jump_if_four_agree(strays, votes):
    first = table([10, 60, 110, 160, 210], [50, 20, 80, 40, 60])
    tracker = Tracker()
    before = tracker.step(0, first)
    jump = np.full(5, 30.0)
    jump[:strays] += [25, 40][:strays]
    step = tracker.step(1, first.assign(x=first["x"] + jump))
    assert step.drift_px == pytest.approx((0, 30 if votes else 0))
    assert step.drift_votes == votes
    assert np.count_nonzero(step.particle == before.particle) == votes


def votes_between(first, later):
    """Drift and its votes from one section of few particles to the next, positions (n, 2)."""
    tracker = Tracker()
    tracker.step(0, table(first[:, 1], first[:, 0]))
    step = tracker.step(1, table(later[:, 1], later[:, 0]))
    return step.drift_px, step.drift_votes


@pytest.mark.parametrize("particles", [5, 7, 9])
def test_some_that_wander_do_not_hide_a_stage_jump(particles):
    rng = np.random.default_rng(particles)
    found = 0
    for _ in range(60):
        first = rng.uniform(0, 700, (particles, 2))
        later = first + np.array([20, -12]) + rng.normal(0, 1, first.shape)
        later[: particles // 4] += rng.normal(0, 15, (particles // 4, 2))
        found += votes_between(first, later)[0] == pytest.approx((20, -12), abs=3)
    assert found >= 48


@pytest.mark.parametrize("particles", [5, 7, 10])
def test_strangers_in_a_clump_make_no_stage_jump(particles):
    rng = np.random.default_rng(particles)

    def clump():
        steps = rng.uniform(6, 12, (particles, 2)) * rng.choice([-1, 1], (particles, 2))
        return np.cumsum(steps, axis=0)

    assert sum(votes_between(clump(), clump())[1] > 0 for _ in range(100)) <= 2


@pytest.mark.parametrize("shape", [(1, 6), (2, 3), (3, 3)])
def test_small_arrays_do_not_slip(shape):
    rng = np.random.default_rng(0)
    array = 30.0 * np.argwhere(np.ones(shape))
    slips = 0
    for _ in range(60):
        later = array + np.array([0, 24]) + rng.normal(0, 1, array.shape)
        (dy, dx), votes = votes_between(array, later)
        slips += votes > 0 and np.hypot(dy, dx - 24) > 6
    assert slips <= 3


def test_what_wanders_is_not_taken_for_drift():
    rng = np.random.default_rng(0)
    first = rng.uniform(0, 400, (7, 2))
    moved = [votes_between(first, first + rng.normal(0, 7, first.shape))[1] for _ in range(60)]
    assert np.count_nonzero(moved) < 21


def test_three_particles_give_no_drift():
    first = table([10, 60, 110], [50, 20, 80])
    tracker = Tracker()
    before = tracker.step(0, first)
    step = tracker.step(1, first.assign(x=first["x"] + 2))
    assert step.drift_px == (0, 0)
    assert step.drift_votes == 0
    assert np.array_equal(step.particle, before.particle)


def test_a_lattice_does_not_slip_by_a_row():
    # One row leaves on the left and one enters on the right: a slip by a row (14 px) would find
    # all hundred columns, the drift of 2 px finds ninety.
    y, x = (a.ravel() for a in np.meshgrid(np.arange(10) * 12.0, np.arange(11) * 12.0))
    tracker = Tracker()
    before = tracker.step(0, table(x[x < 120], y[x < 120], 5))
    step = tracker.step(1, table(x[x > 0] + 2, y[x > 0] - 1, 5))
    assert step.drift_px == pytest.approx((-1, 2), abs=1e-6)
    kept = x[x < 120] > 0
    assert np.array_equal(step.particle[x[x > 0] < 120], before.particle[kept])


@pytest.mark.parametrize("cut", [1, 12, 20])
def test_a_restored_tracker_goes_on_identically(cut):
    tables, _ = walks()
    steps = followed()
    tracker = Tracker(TrackerSettings())
    follow(tables[:cut], tracker)
    state = tracker.to_bytes()
    tracker = Tracker.from_bytes(state)
    assert tracker.to_bytes() == state
    rest = [tracker.step(cut + i, rows) for i, rows in enumerate(tables[cut:])]
    assert all(same(a, b) for a, b in zip(steps[cut:], rest, strict=True))


def test_settings_are_saved_with_the_state():
    chosen = TrackerSettings(max_step_px=4.0, memory_frames=7, max_drift_px=20.0)
    assert Tracker.from_bytes(Tracker(chosen).to_bytes()).settings == chosen


@given(seed=st.integers(0, 2**32 - 1))
@examples(15)
def test_the_order_of_rows_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    tables, _ = walks(sections=6, particles=60, step_px=3.0)
    plain, shuffled = Tracker(), Tracker()
    for frame, rows in enumerate(tables):
        order = rng.permutation(len(rows))
        a, b = plain.step(frame, rows), shuffled.step(frame, rows.iloc[order])
        assert np.array_equal(a.particle[order], b.particle)
        assert a.cumulative_drift_px == b.cumulative_drift_px
    assert plain.to_bytes() == shuffled.to_bytes()


# Which of six sites, far apart or close together, hold a particle in each section.
@given(
    sections=st.lists(st.sets(st.integers(0, 5)), max_size=12),
    spacing_px=st.sampled_from([3.0, 40.0]),
)
@examples(30)
def test_identities_are_unique_in_a_section_and_never_used_again(sections, spacing_px):
    tracker, ever, gone = Tracker(TrackerSettings(memory_frames=0)), set(), set()
    for frame, sites in enumerate(sections):
        x = spacing_px * np.array(sorted(sites), float)
        step = tracker.step(frame, table(x, 0 * x))
        present = set(step.particle.tolist())
        assert len(present) == len(sites)
        assert present - ever == set(step.appeared.tolist())
        assert not present & gone
        ever |= present
        gone |= set(step.vanished.tolist())


def test_a_gap_is_bridged_and_a_longer_one_is_not():
    near, far = table([20, 100], [20, 100]), table([100], [100])
    for missing, expected in ((3, 1), (4, 3)):
        tracker = Tracker(TrackerSettings(memory_frames=3))
        tracker.step(0, near)
        vanished = [tracker.step(1 + i, far).vanished.tolist() for i in range(missing)]
        assert list(chain(*vanished)) == ([1] if missing == 4 else [])
        assert tracker.step(1 + missing, near).particle.tolist() == [expected, 2]


@pytest.mark.parametrize("blank", [1, 10])
def test_blank_sections_do_not_end_tracks(blank):
    tables, _ = walks(missed=0.0)
    tracker = Tracker()
    before = follow(tables[:5], tracker)[-1]
    for i in range(blank):
        step = tracker.step(5 + i, tables[0].iloc[:0])
        assert step.particle.size == step.vanished.size == 0
        assert step.cumulative_drift_px == before.cumulative_drift_px
    after = tracker.step(5 + blank, tables[5])
    assert np.array_equal(after.particle, before.particle)


def test_a_nearly_blank_section_does_not_end_tracks():
    tables, _ = walks(missed=0.0)
    tracker = Tracker(TrackerSettings(memory_frames=0))
    before = follow(tables[:5], tracker)[-1]
    tracker.step(5, tables[5].iloc[:20])
    after = tracker.step(6, tables[6])
    assert np.mean(after.particle == before.particle) > 0.98


def test_a_missing_section_widens_the_gate():
    still = table([20, 60, 100], [20, 20, 20])
    moved = table([20, 60, 104], [20, 20, 20])
    outcome = []
    for frame in (6, 9):
        tracker = Tracker()
        for i in range(6):
            tracker.step(i, still)
        outcome.append(tracker.step(frame, moved).particle.tolist())
    assert outcome == [[1, 2, 4], [1, 2, 3]]


def test_the_longest_step_can_be_limited():
    for limit, expected in ((None, [1, 2]), (3.0, [3, 4])):
        tracker = Tracker(TrackerSettings(max_step_px=limit))
        tracker.step(0, table([20, 100], [20, 100]))
        assert tracker.step(1, table([24, 104], [20, 100])).particle.tolist() == expected


@pytest.mark.parametrize(
    ("x", "diameter_px", "touches_edge", "stays"),
    [
        (109.0, 32.0, False, True),  # half of the disc was drawn: its centroid is 0.42 radii off
        (115.0, 40.0, False, False),  # beyond half a radius
        (115.0, 40.0, True, True),  # of which the edge shows a part
        (105.0, 12.0, False, False),  # a small one where the large one vanished
        (115.0, 12.0, True, True),  # of which the edge shows little
    ],
)
def test_another_outline_in_the_same_place_is_the_same_particle(
    x, diameter_px, touches_edge, stays
):
    still = table([100, 300, 500], [100] * 3, 44.0)
    tracker = Tracker()
    for frame in range(6):
        gate_px = tracker.step(frame, still).gate_px
    assert gate_px < 2.0
    changed = table([x, 300, 500], [100] * 3, [diameter_px, 44, 44], [touches_edge, False, False])
    step = tracker.step(6, changed)
    assert (step.particle[0] == 1) == stays
    again = tracker.step(7, still)
    assert again.particle.tolist() == [1, 2, 3]
    assert again.gate_px == gate_px


def test_a_speck_is_not_what_the_edge_cuts():
    tracker = Tracker()
    for frame in range(6):
        tracker.step(frame, table([60, 300, 500], [100] * 3, [120, 44, 44], [True, False, False]))
    step = tracker.step(6, table([110, 300, 500], [100] * 3, [8, 44, 44]))
    assert step.particle.tolist() == [4, 2, 3]


def test_most_outlines_may_change_at_once_if_the_drift_is_known():
    x, y = (line.ravel() for line in np.meshgrid([100, 300, 500], [100, 300, 500]))
    rng = np.random.default_rng(3)
    tracker = Tracker()
    for frame in range(6):
        tracker.step(frame, table(x + rng.normal(0, 0.2, 9), y, 80.0))
    angle = np.linspace(0, 2 * np.pi, 5, endpoint=False)
    x, y = x.astype(float), y.astype(float)
    x[:5] += 6.0 * np.cos(angle)
    y[:5] += 6.0 * np.sin(angle)
    step = tracker.step(6, table(x, y, np.where(np.arange(9) < 5, 70.0, 80.0)))
    assert step.drift_votes
    assert step.gate_px < 2.5
    assert step.particle.tolist() == list(range(1, 10))


def test_another_field_has_no_identities_of_the_one_before():
    rng = np.random.default_rng(0)
    fields = [table(x, y, 60.0) for x, y in rng.uniform(30, 2018, (2, 2, 300))]
    tracker = Tracker()
    for frame in range(4):
        tracker.step(frame, fields[0])
    assert np.mean(tracker.step(4, fields[1]).particle <= 300) < 0.01


def test_another_outline_is_no_longer_step_than_is_allowed():
    tracker = Tracker(TrackerSettings(max_step_px=5.0))
    tracker.step(0, table([100, 300], [100, 100], 44.0))
    assert tracker.step(1, table([108, 300], [100, 100], 44.0)).particle.tolist() == [3, 2]


def test_size_decides_between_equal_distances():
    for diameter_px, expected in ((8.0, 1), (16.0, 2)):
        tracker = Tracker()
        tracker.step(0, table([20, 30], [20, 20], [8.0, 16.0]))
        assert tracker.step(1, table([25], [20], diameter_px)).particle.tolist() == [expected]


def test_no_section_goes_back():
    tracker = Tracker()
    tracker.step(3, table(1, 1))
    with pytest.raises(ValueError, match="section 3 after section 3"):
        tracker.step(3, table(1, 1))


def test_a_damaged_or_newer_state_is_refused():
    state = Tracker().to_bytes()
    newer = msgspec.msgpack.encode(msgspec.msgpack.decode(state) | {"version": 99})
    for data, reason in ((b"", "cannot be read"), (state[:-9], "cannot"), (newer, "version 99")):
        with pytest.raises(SessionError, match=reason):
            Tracker.from_bytes(data)


@pytest.mark.parametrize(
    "wrong", [{"max_step_px": 0.0}, {"memory_frames": -1}, {"max_drift_px": float("nan")}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrackerSettings(**wrong)
