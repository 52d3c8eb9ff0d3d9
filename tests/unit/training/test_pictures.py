"""Generated pictures: the same for a seed, their truth in order, invisible particles left out."""

from __future__ import annotations

import numpy as np
import pytest

from nanostream.training.phase_objects import draw_lattice_picture
from nanostream.training.pictures import Picture, Truth, visible_particles
from nanostream.training.placement import place_particles
from nanostream.training.presentation import present
from nanostream.training.projections import FORMS, RIM, draw_projection
from nanostream.training.stream import (
    GAP,
    IGNORED,
    PARTICLE,
    SHARES,
    as_example,
    draw_picture,
    generate,
    picture_path,
    read_example,
)
from nanostream.training.survey import draw_survey_picture
from nanostream.training.textures import blobs, grain, patches, slow, webs

SIZE = 160
KINDS = {
    "lattice usual": lambda rng: draw_lattice_picture(rng, size_px=SIZE),
    "lattice faint": lambda rng: draw_lattice_picture(rng, size_px=SIZE, kind="faint"),
    "lattice bare": lambda rng: draw_lattice_picture(rng, size_px=SIZE, kind="bare"),
    "survey": lambda rng: draw_survey_picture(rng, size_px=SIZE),
    "survey bare": lambda rng: draw_survey_picture(rng, size_px=SIZE, bare=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_the_same_for_its_seed(kind):
    one, two = (KINDS[kind](np.random.default_rng(11)) for _ in range(2))
    np.testing.assert_array_equal(one.pixels, two.pixels)
    np.testing.assert_array_equal(one.truth.instances, two.truth.instances)
    assert one.kind == kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_truth_and_pixels_belong_together(kind, seed):
    picture = KINDS[kind](np.random.default_rng(seed))
    truth = picture.truth
    assert picture.pixels.shape == truth.instances.shape == (SIZE, SIZE)
    assert picture.pixels.dtype in (np.int16, np.uint8)
    assert picture.pixels.min() < picture.pixels.max()
    inside = truth.instances > 0
    assert (truth.depth[inside] > 0).all()
    assert (truth.depth[~inside] == 0).all()
    assert truth.depth.max(initial=0) <= 1.0
    if "bare" in kind:
        assert not inside.any()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("radius_px", [3.0, 20.0, 60.0])
def test_a_projection_is_one_piece_of_about_its_size(form, radius_px):
    areas = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        drawn = draw_projection(rng, form, centre=(100, 100), radius_px=radius_px, field_px=200)
        assert drawn is not None
        assert drawn.thickness[~drawn.outline].max(initial=0) == 0
        assert drawn.depth[drawn.outline].min() > 0
        assert drawn.depth.max() == pytest.approx(1.0)
        areas.append(drawn.outline.sum() / (np.pi * radius_px**2))
    assert 0.3 < np.median(areas) < 2.0


def test_a_spheres_outline_is_near_its_radius():
    rng = np.random.default_rng(0)
    wide = [
        draw_projection(rng, "round", centre=(80, 80), radius_px=40.0, field_px=160)
        for _ in range(20)
    ]
    greatest = max(np.sqrt(drawn.outline.sum() / np.pi) for drawn in wide if drawn)
    assert greatest == pytest.approx(40.0 * np.sqrt(1.0 - RIM**2), rel=0.03)


def test_what_lies_outside_of_the_field_is_nothing():
    rng = np.random.default_rng(0)
    assert draw_projection(rng, "cube", centre=(-90, 50), radius_px=20, field_px=100) is None


def test_a_particle_cut_by_the_edge_is_deepest_at_the_edge():
    rng = np.random.default_rng(4)
    drawn = draw_projection(rng, "round", centre=(50.0, -8.0), radius_px=30.0, field_px=100)
    assert drawn is not None
    deepest = np.unravel_index(drawn.depth.argmax(), drawn.depth.shape)
    assert deepest[1] + drawn.corner[1] <= 1


def test_a_void_makes_a_particle_thinner_but_not_smaller():
    plain, hollow = (
        draw_projection(
            np.random.default_rng(7),
            "round",
            centre=(50, 50),
            radius_px=30,
            field_px=100,
            hollow=hollow,
        )
        for hollow in (False, True)
    )
    assert plain is not None
    assert hollow is not None
    np.testing.assert_array_equal(plain.outline, hollow.outline)
    assert hollow.thickness.sum() < 0.9 * plain.thickness.sum()


@pytest.mark.parametrize("arrangement", ["apart", "touching", "heaped", "superlattice", "close-up"])
def test_particles_are_placed_in_and_around_the_field(arrangement):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        centres, radii = place_particles(
            rng, arrangement, field_px=300, radius_px=12.0, spread=0.1, most=60
        )
        assert len(centres) == len(radii) <= 60
        if arrangement != "close-up":
            assert (centres > -3 * radii.max(initial=1)).all()
            assert (centres < 300 + 3 * radii.max(initial=1)).all()


def test_particles_apart_do_not_touch():
    rng = np.random.default_rng(2)
    centres, radii = place_particles(rng, "apart", field_px=400, radius_px=10.0, spread=0.2)
    distance = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    distance[np.diag_indices(len(radii))] = np.inf
    assert (distance > radii[:, None] + radii[None]).all()


def two_particles() -> Truth:
    truth = Truth.empty(60)
    truth.instances[5:20, 5:20] = 1
    truth.instances[30:50, 30:50] = 2
    truth.depth[truth.instances > 0] = 0.5
    return truth


def test_particles_below_the_noise_are_ignored_with_their_rim():
    truth, signal = two_particles(), np.zeros((60, 60), np.float32)
    signal[truth.instances == 1] = 0.01
    signal[truth.instances == 2] = 1.0
    noise = np.ones((1, 1), np.float32)
    seen = visible_particles(truth, signal, noise, least_ratio=0.3, least_snr=4.0, grain_px=2.0)
    assert seen.ignored[truth.instances == 1].all()
    assert not seen.ignored[truth.instances == 2].any()
    assert seen.ignored[4, 10]
    assert not seen.ignored[0, 0]
    np.testing.assert_array_equal(seen.instances, truth.instances)


def test_letters_over_a_particle_count_for_nothing_and_else_as_background():
    truth = Truth.empty(256)
    truth.instances[:, :128] = 1
    counts = np.random.default_rng(0).normal(100.0, 5.0, (256, 256)).astype(np.float32)
    changed = False
    for seed in range(10):
        rng = np.random.default_rng(seed)
        picture = Picture(np.empty((0, 0), np.int16), truth, "test")
        shown = present(rng, counts, picture, journal=1.0)
        assert shown.pixels.dtype == np.uint8
        assert not shown.truth.ignored[:, 128:].any()
        changed |= bool(shown.truth.ignored.any())
    assert changed


def test_an_example_has_the_gap_and_where_particles_meet():
    truth = Truth.empty(64)
    truth.instances[10:30, 10:30] = 1
    truth.instances[10:30, 30:50] = 2  # meets the first
    truth.instances[34:54, 10:30] = 3  # a gap of four px
    truth.ignored[40:44, 15:20] = True
    pixels = np.random.default_rng(0).integers(0, 200, (64, 64)).astype(np.uint8)
    code = as_example(Picture(pixels, truth, "test")).code
    np.testing.assert_array_equal((code & PARTICLE) > 0, truth.instances > 0)
    np.testing.assert_array_equal((code & IGNORED) > 0, truth.ignored)
    gap = (code & GAP) > 0
    assert gap[20, 29:31].all()
    assert gap[31:33, 20].all()
    assert not gap[20, 15]
    assert not gap[60, 60]


def test_shares_add_up():
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_pictures_are_written_once_and_come_back(tmp_path):
    generate(tmp_path, 4, size_px=SIZE, numbers=range(2))
    path = picture_path(tmp_path, 1)
    before = path.stat().st_mtime_ns
    asked: list[int] = []
    generate(tmp_path, 4, size_px=SIZE, numbers=range(3), wait=asked.append)
    assert path.stat().st_mtime_ns == before
    assert asked == [2]
    example, made = read_example(path), as_example(draw_picture(4, 1, size_px=SIZE))
    np.testing.assert_allclose(example.image, made.image, atol=0.01)
    np.testing.assert_array_equal(example.code, made.code)
    assert example.kind == made.kind


def test_textures_are_of_unit_scale_and_repeat():
    rng = np.random.default_rng
    assert np.abs(slow(rng(0), 200, waves=3.0)).max() == pytest.approx(1.0)
    for length_px in (0.5, 2.0, 12.0):
        assert grain(rng(0), 200, length_px=length_px).std() == pytest.approx(1.0, rel=0.1)
    part = patches(rng(0), 200, part=0.3, waves=2.0)
    assert part.mean() == pytest.approx(0.3, abs=0.05)
    bands = webs(rng(0), 200, count=3)
    assert bands.min() >= 0.0
    assert bands.max() == pytest.approx(1.0, abs=0.3)
    np.testing.assert_array_equal(
        blobs(rng(1), 200, count=4, largest_px=60), blobs(rng(1), 200, count=4, largest_px=60)
    )
